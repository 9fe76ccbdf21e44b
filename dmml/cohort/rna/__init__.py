"""RNA as programs and portals write it: file formats, sample names, rows that are not genes, tables that are not RNA."""
