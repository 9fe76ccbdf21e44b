"""Text tables of hospitals and portals: compression, encoding, separators, headers, rows and columns of ids."""
