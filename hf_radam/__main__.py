"""`python -m hf_radam`: the table of the registered optimizers."""

from __future__ import annotations

from hf_radam.registry import get_optimizer, list_optimizers


def main() -> None:
    """Print the table."""
    rows = [("name", "without warmup", "description", "reference")]
    for name in list_optimizers():
        spec = get_optimizer(name)
        rows.append((name, "yes" if spec.warmup_free else "no", spec.description, spec.reference))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
