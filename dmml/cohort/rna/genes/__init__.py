"""Names of genes: symbols, Ensembl ids, Entrez numbers, probes, transcripts; and rows that are not genes."""
