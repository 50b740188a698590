"""The pages by which an office is set up."""
