"""What a table came to, as HTML, CSV and PNG: `reports.report` writes it, `reports.verdicts` says what a number means."""
