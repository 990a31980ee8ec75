"""Reports in other forms: each module renders a report, as ``Report.as_dict`` and ``--json`` tell it, as text."""
