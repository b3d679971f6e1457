"""The verdict says what the numbers say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import write_results

from hf_radam.experiments.comparison import load_comparison
from hf_radam.experiments.records import load_records
from hf_radam.experiments.report.report import make_report
from hf_radam.experiments.report.verdict import judge
from hf_radam.experiments.results import Results
from hf_radam.publishing import reproduce

FOUR: dict[str, Any] = {
    "adam": [3.9, 3.9],
    "adam_warmup": [0.2, 0.2],
    "adam_untuned_linear": [0.3, 0.3],
    "radam": [0.5, 0.6],
}
# name: losses of the recipes, and what the finding must and must not say
FINDINGS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "radam_loses": (
        FOUR,
        ["**Keep the warmup.** RAdam ends at 0.550 ± 0.071, 0.350 (175 %) above Adam with a 5-update warmup (0.200 "
         "± 0.000), in all 2 seeds. Without warmup Adam: 3.900 ± 0.000, no better than constant prediction (3.80) in 2 "
         "of 2 seeds. Untuned warmup: 0.300 ± 0.000. With 2 seeds no test can reach p < 0.05; 6 can."],
        ["below", "Not finished"],
    ),
    "radam_comes_near": (
        {"adam": [3.9, 3.9], "adam_warmup": [0.2, 0.2], "radam": [0.23, 0.21]},
        ["**Almost.** RAdam ends at 0.220 ± 0.014, 0.020 (10 %) above"], ["Keep"],
    ),
    "one_seed": (
        {"adam": [3.9], "adam_warmup": [0.2], "radam": [0.5]},
        ["**One seed, so no spread and no test.** Adam with a 5-update warmup: 0.200; RAdam: 0.500; Adam: 3.900. "
         "`--seeds 0 1 2 3 4 5` is the fewest that allow a test."], ["wins", "Keep", "±"],
    ),
    "radam_wins": (
        {"adam_warmup": [0.9, 0.9], "radam": [0.5, 0.6]}, ["**RAdam wins.**", "0.350 (39 %) below"], ["help"],
    ),
    "radam_wins_on_average_only": (
        {"adam_warmup": [0.55, 0.45, 0.55], "radam": [0.5, 0.5, 0.5]},
        ["**Tie.** RAdam (0.500 ± 0.000) and Adam",
         "differ by 0.017, and 2 of 3 seeds agree on the sign"], ["wins"],
    ),
    "warmup_is_of_no_use": (
        {"adam": [0.3, 0.3], "adam_warmup": [0.4, 0.4], "radam": [0.5, 0.5]},
        ["**RAdam loses, but warmup is no help here.**",
         "Without warmup Adam: 0.300 ± 0.000. Best is Adam: 0.300"], ["Keep"],
    ),
    "both_end_in_two_places": (
        {"adam": [3.9, 3.9], "adam_warmup": [0.4, 3.8], "radam": [0.5, 3.9]},
        ["**Depends on the seed.** RAdam: 0.500 (1 of 2), 3.900 (1 of 2); Adam with a 5-update warmup: 0.400 (1 of 2)"],
        ["Keep", "no mean"],
    ),
    "another_ends_in_two_places": (
        {"adam_eps": [0.4, 3.8], "adam_warmup": [0.5, 0.5], "radam": [0.5, 0.5]},
        ["**Tie.** RAdam", "**Depends on the seed.** `adam_eps`: 0.400 (1 of 2), 3.800 (1 of 2), so no mean"], [],
    ),
    "six_seeds_apart": (
        {"adam_warmup": [0.9, 0.91, 0.92, 0.9, 0.89, 0.9], "radam": [0.5, 0.52, 0.5, 0.49, 0.5, 0.5]},
        ["Over 6 paired seeds the difference is significant (sign-flip test, p = 0.031)."], ["can."],
    ),
    "six_seeds_alike": (
        {"adam_warmup": [0.52, 0.5, 0.52, 0.5, 0.52, 0.5], "radam": [0.5, 0.52, 0.5, 0.52, 0.5, 0.52]},
        ["the difference is not significant (sign-flip test, p = 1.000)."], [],
    ),
    "six_seeds_one_diverged": (
        {"adam_warmup": [0.5, 0.5, 0.5, 0.5, 0.5, 0.5], "radam": [0.6, 0.6, 0.6, 0.6, 0.6, None]},
        ["**Depends on the seed.** RAdam: 0.600 (5 of 6), not finite (1 of 6); "], ["p =", "can."],
    ),
    "radam_diverged": (
        {"adam_warmup": [0.5, 0.5], "radam": [None, None]},
        ["**Keep the warmup.** RAdam: not finite (2 of 2); Adam with a 5-update warmup: 0.500"], ["RAdam ends"],
    ),
    "warmup_diverged": (
        {"adam_warmup": [None, None], "radam": [0.5, 0.5]},
        ["**RAdam wins.** RAdam: 0.500 ± 0.000; Adam with a 5-update warmup: not finite (2 of 2)."], [],
    ),
    "nothing_trained": (
        {"adam_warmup": [None, 3.9], "radam": [3.9, 3.79]},
        ["**Nothing trained.** All 2 recipes diverge or are no better than constant prediction (3.80). Lower the "
         "learning rate (tried: 0.001) before comparing optimizers."], ["Best", "wins"],
    ),
    "one_recipe": ({"radam": [0.5, 0.5]}, ["RAdam: 0.500 ± 0.000."], ["Best", "**", "can."]),
    "no_radam": (
        {"adam": [0.9, 0.9], "adam_warmup": [0.5, 0.5]}, ["Best is Adam with a 5-update warmup: 0.500"], ["RAdam"],
    ),
    "no_warmup": ({"adam": [0.9, 0.9], "radam": [0.5, 0.5]}, ["Best is RAdam: 0.500"], ["with a"]),
    "several_lengths_of_warmup": (
        {"adam_warmup_share": [0.6, 0.6], "adam_warmup_10": [0.5, 0.5], "radam": [0.7, 0.7]},
        ["0.200 (40 %) above `adam_warmup_10` (0.500"], [],
    ),
    "another_model_is_a_control": (
        {"adam": [3.9, 3.9], "adam_pre_ln": [0.1, 0.1], "adam_warmup": [0.2, 0.2], "radam": [0.5, 0.5]},
        ["**Keep the warmup.** RAdam ends at 0.500",
         "With another model, as a control, `adam_pre_ln`: 0.100"], ["Best"],
    ),
    "unfinished_in_a_seed": (
        {"adam_warmup": [0.2, 0.2, 0.9], "radam": [0.5, 0.5]},
        ["**Not finished: 5 of 6 runs.** Over the seeds that all recipes have (0, 1): **Keep the warmup.**"], [],
    ),
    "unfinished_by_a_recipe": (
        {"adam_warmup": [0.2], "radam": [0.5], "adam_eps": []},
        ["**Not finished: 2 of 3 runs.** **One seed"], ["adam_eps"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FINDINGS)
def test_the_finding_says_what_the_numbers_say(name: str, tmp_path: Path) -> None:
    losses, said, unsaid = FINDINGS[name]
    text = " ".join(judge(Results.load(write_results(tmp_path / "results", losses))))
    assert [words for words in said if words not in text] == []
    assert [words for words in unsaid if words in text] == []
    assert "  " not in text
    assert "None" not in text


def test_a_metric_measured_on_validation_decides(tmp_path: Path) -> None:
    """Of which more is better, and which losses may contradict; a failed run's number is no share."""
    read = Results.load(write_results(tmp_path / "results", FOUR))
    records = [replace(r, evaluations={**r.evaluations, "bleu": r.evaluations["loss"]}) for r in read.records]
    text = " ".join(judge(replace(read, records=records)))
    assert text.startswith("**Keep the warmup.** RAdam ends at 64.6 ± 2.9, 18.")  # 18.75 is rounded either way
    assert " below Adam with a 5-update warmup (83.3" in text
    records = [replace(record, facts={"majority_class": 90.0}) for record in records]
    text = " ".join(judge(replace(read, records=records)))
    assert text.startswith("**Nothing trained.** All 4 recipes diverge or are no better than always predicting")


def test_seeds_that_no_two_recipes_share_show_nothing(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "results", {"adam": [0.5, 0.5], "radam": [0.5, 0.5]})
    for record in load_records(folder):
        if (record.recipe == "radam") == (record.seed == 0):
            (folder / "records" / f"{record.id}.json").unlink()
    said = ["**Not finished: 2 of 4 runs.**", "No seed has a run of all recipes: nothing to compare yet."]
    assert judge(Results.load(folder)) == said


def test_recipes_that_were_given_fewer_seeds_are_not_unfinished(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "results", {"adam_warmup": [0.2, 0.3, 0.4], "adam_eps": [3.5], "radam": [0.5]})
    description = json.loads((folder / "comparison.json").read_text())
    asked = [record.id for record in load_records(folder)]
    (folder / "comparison.json").write_text(json.dumps({**description, "asked": asked}))
    read = Results.load(folder)
    report = make_report(read)
    assert report.verdict[0] == "Over the seeds that all recipes have (0):"
    assert (
        "Unequal numbers of seeds (as the comparison was made): 2 settings have 1, 1 settings have 3." in report.notes
    )
    (tmp_path / "again.yaml").write_text(reproduce.comparison_file(read))
    assert sorted(run.id for run in load_comparison(tmp_path / "again.yaml").runs()) == sorted(asked)
    (folder / "records" / f"{asked[0]}.json").unlink()
    assert judge(Results.load(folder))[0] == "**Not finished: 4 of 5 runs.**"
