"""What a person reads after a run: markdown tables, the HTML page, pictures, and the matrix of runs."""
