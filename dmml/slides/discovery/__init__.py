"""Which files are slides, and what is known of them before an extraction begins."""
