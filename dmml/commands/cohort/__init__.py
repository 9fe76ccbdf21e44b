"""`dmml cohort …`: downloads and files of other tools become the tables of a cohort."""
