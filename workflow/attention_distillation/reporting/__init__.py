"""What people read: tables, figures, verdicts on the claims; no torch."""
