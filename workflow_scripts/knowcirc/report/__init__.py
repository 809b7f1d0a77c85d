"""What a study found, for readers: the report as one HTML page, and a page in Markdown."""
