"""Stage 9: one table of what was predicted and measured, as a record, Markdown and one HTML file."""
