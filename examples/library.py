"""Questions from a program: `python examples/library.py` asks the offline emulator; no key is needed."""

import askmill

rows = askmill.run(["What is 12 * (3 + 4)?", "Solve 3x + 11 = 14"], offline=True)
for row in rows:
    print(row.input["question"], "→", row.answer)  # noqa: T201 -- what an example is for

total_usd = sum(row.cost_usd or 0.0 for row in rows)
slowest_s = max(row.duration_s or 0.0 for row in rows)
print(f"{askmill.status().state}: ${total_usd:.5f}, the slowest run took {slowest_s:.1f} s")  # noqa: T201
