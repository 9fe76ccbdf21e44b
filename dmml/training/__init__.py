"""Lightning modules that compose the parts."""
