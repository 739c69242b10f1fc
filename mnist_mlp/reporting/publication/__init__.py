"""What a paper needs of a comparison: tables, figures, methods, checklists, a model card, hashes, commands."""
