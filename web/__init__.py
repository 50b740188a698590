"""The switch seen from a browser: dashboard, recordings, health."""
