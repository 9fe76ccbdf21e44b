"""RNA: files of programs and portals become one table of patients × genes, on the scale of the models."""
