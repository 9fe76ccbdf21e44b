"""What spans rooms: results of a test, raw slide to answer."""
