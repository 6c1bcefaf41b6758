"""Writes examples/mails.csv: 200 made-up support mails with their topics, the same at every run."""

import csv
import random
from pathlib import Path

MAILS = {
    "billing": (
        "I was charged twice for order {n}. Please refund one of the two payments.",
        "My invoice {n} shows {amount} dollars, and your page says half of it.",
        "Which address do I write to about the receipt of order {n}?",
    ),
    "delivery": (
        "Parcel {n} should have come on {day}. Where is it?",
        "The box of order {n} arrived open, and one lamp is missing.",
        "Can you send order {n} to my office instead? It leaves on {day}, I think.",
    ),
    "technical": (
        "Since {day} the app closes when I open photo {n}.",
        "The lamp connects, blinks {amount} times and is offline again.",
        "I cannot sign in: the code that you send does not arrive. My account is {n}.",
    ),
    "praise": (
        "Order {n} came on {day} already. Thank you, I am impressed!",
        "Your helper solved my problem in {amount} minutes. Wonderful.",
        "The lamp is beautiful. I have told all my neighbours.",
    ),
}
GREETINGS = ("Hello,", "Good morning,", "Dear team,", "Hi!")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
ROWS = 200


def main() -> None:
    """Write the file beside this one."""
    rng = random.Random(17)  # noqa: S311 -- made-up mails
    topics = list(MAILS)
    with (Path(__file__).parent / "mails.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "mail", "topic"])
        for number in range(1, ROWS + 1):
            topic = rng.choice(topics)
            text = rng.choice(MAILS[topic]).format(
                n=rng.randrange(10_000, 99_999), amount=rng.randrange(2, 90), day=rng.choice(DAYS)
            )
            writer.writerow([f"M{number:03}", f"{rng.choice(GREETINGS)}\n{text}", topic])


if __name__ == "__main__":
    main()
