"""Downloads of a cohort's open files: from the GDC's API, and slides as DICOM from the Imaging Data Commons."""
