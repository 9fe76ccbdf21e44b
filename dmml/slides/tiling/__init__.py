"""Where the tissue of a slide is, and the grid of tiles over it."""
