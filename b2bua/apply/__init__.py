"""What an office is, as a file or a page says it: read, checked, compared, written."""
