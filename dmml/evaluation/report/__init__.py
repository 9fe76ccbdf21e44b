"""The report of tests as one HTML page: sections, tables, formatted numbers and sentences."""
