"""What the widget in amoCRM asks of the server."""
