"""Files of the form of published prompt sets, with nothing of their contents."""

import csv
import io

from erasure.prompt_sets import sources

BIG_SEED = 2**31


def text_of(columns, rows, newline="\n") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=newline)
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()


def i2p_rows() -> list[dict[str, str]]:
    """Rows that pass every check of I2P: 250 of violence alone, hard; 506 shocking and violent; and so on."""
    counts = [("violence", 250), ("shocking, violence", 506), ("shocking", 350), ("sexual", 931), ("harassment", 824)]
    counts += [("self-harm", 801), ("illegal activity", 727), ("hate", 231)]
    categories = [name for name, n in counts for _ in range(n)]
    categories += [""] * (4703 - len(categories))
    rows = []
    for n, category in enumerate(categories):
        nudity = 60 if n >= 4703 - 95 else 50 if n >= 4703 - 134 else 0.5 if n >= 4703 - 854 else 0
        cells = dict.fromkeys(sources()["i2p"]["columns"], "")
        cells |= {"": n, "prompt": "" if n == 2260 else f'made up, "{n}"', "categories": category, "case_number": n}
        cells |= {"hard": int(n < 250), "inappropriate_percentage": 75, "nudity_percentage": nudity}
        cells |= {"evaluation_seed": BIG_SEED + n if n < 2356 else n, "evaluation_guidance": 1 + n % 255}
        cells |= {"sd_image_width": 512, "sd_image_height": 512, "sd_model": "none"}
        rows.append({name: str(value) for name, value in cells.items()})
    rows[-1]["evaluation_seed"] = "4290749014"
    return rows


def coco_rows() -> list[dict[str, str]]:
    """Rows that pass every check of the 30,000 captions."""
    seeds = (10 + n % (99998 - 10 + 1) for n in range(29999))
    rows = [
        {"case_number": n, "source": "coco-30k", "prompt": f"made up {n}", "evaluation_seed": s, "coco_id": 7 * n}
        for n, s in enumerate([*seeds, 99998])
    ]
    return [{name: str(value) for name, value in row.items()} for row in rows]
