"""Reads RNA from programs and portals: file formats, sample names, rows that are not genes, tables that are not RNA."""
