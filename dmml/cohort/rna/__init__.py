"""RNA as programs and portals write it: formats, names of samples, rows that are no genes, tables that are no RNA."""
