"""What the Hub reads of a card: its metadata."""

from __future__ import annotations

import re

from huggingface_hub import CardData, DatasetCardData, EvalResult, ModelCardData

from hf_radam.experiments.metrics import METRICS
from hf_radam.experiments.records import Record
from hf_radam.experiments.report.escape import one_line
from hf_radam.experiments.report.statistics import Estimate, Row
from hf_radam.experiments.results import Results
from hf_radam.publishing import reproduce
from hf_radam.publishing.page import Page
from hf_radam.publishing.tables import features

TAGS = ["radam", "warmup", "optimizer", "learning-rate-schedule", "hf_radam"]
# Our tasks by the names that the Hub and Transformers have for them.
PIPELINES = {
    "translation": ("translation", "AutoModelForSeq2SeqLM"),
    "classification": ("text-classification", "AutoModelForSequenceClassification"),
    "language_modeling": ("text-generation", "AutoModelForCausalLM"),
}


def metadata(results: Results, page: Page, base_model: str | None) -> CardData:
    """The metadata of a card; `base_model` is the name on the Hub of the checkpoint that was fine-tuned."""
    data = results.comparison["shared"]["data"]
    dataset = data.get("dataset_name") if reproduce.is_hub_id(data.get("dataset_name")) else None
    task, _ = pipeline(results)
    tags = [*TAGS, *([] if reproduce.script(results) else [task])]
    if page.repo_type == "dataset":
        return DatasetCardData(
            language=_languages(results),
            license=page.license,
            pretty_name=one_line(results.comparison["name"]),
            tags=tags,
            size_categories=_size(sum(len(table) for table in page.data.values())),
            configs=[
                {"config_name": name, "data_files": f"data/{name}.parquet", **({"default": True} if i == 0 else {})}
                for i, name in enumerate(page.data)
            ],
            dataset_info=[{"config_name": name, "features": features(table)} for name, table in page.data.items()],
        )
    return ModelCardData(
        language=_languages(results),
        license=page.license,
        library_name="transformers" if page.weights else "hf_radam",
        pipeline_tag=task if page.weights and task != "other" else None,
        tags=tags,
        datasets=[dataset] if dataset else None,
        base_model=base_model,
        metrics=[results.metric] if results.metric != "loss" else None,
        model_name=page.title,
        eval_results=_eval_results(results, page.weights),
    )


def _languages(results: Results) -> list[str] | None:
    """Codes of the languages that a translation reads and writes, where the data says them."""
    data = results.comparison["shared"]["data"]
    if not (data.get("dataset_name") or reproduce.local_files(results)):
        return None
    codes = [str(data.get(key)) for key in ("source_lang", "target_lang")]
    return codes if all(re.fullmatch(r"[a-z]{2,3}", code) for code in codes) else None


def pipeline(results: Results) -> tuple[str, str]:
    """The task, and the class of its models, by the names that the Hub and Transformers have for them."""
    return PIPELINES.get(results.comparison["shared"]["task"], ("other", "AutoModel"))


def _eval_results(results: Results, weights: Record | None) -> list[EvalResult]:
    """One result for each recipe and metric, at the recipe's best learning rate; that of the weights comes first."""
    data, (task, _) = results.comparison["shared"]["data"], pipeline(results)
    dataset = data.get("dataset_name")
    local = reproduce.local_files(results).values()
    script = reproduce.script(results)
    about = {
        "task_type": task,
        "dataset_type": dataset or ("local-files" if local or script else "hf_radam-grammar"),
        "dataset_name": dataset or one_line(", ".join(local) or script) or "the built-in grammar of hf_radam",
        "dataset_config": data.get("dataset_config_name"),
        "dataset_revision": data.get("dataset_revision"),
    }
    rows = sorted(results.best_rows(), key=lambda row: weights is None or row.recipe != weights.recipe)
    found: list[EvalResult] = []
    for name in dict.fromkeys(["loss", results.metric, *results.rows[0].metrics]):
        for row in rows:
            estimate = row.loss if name == "loss" else row.metrics[name]
            if estimate.mean is not None:
                found.append(
                    EvalResult(
                        **about,
                        metric_type=name,
                        metric_value=round(estimate.mean, 6),
                        metric_name=_metric_name(name, row, estimate),
                        metric_args={
                            "recipe": row.recipe,
                            "learning_rate": row.learning_rate,
                            "seeds": list(row.seeds),
                            "std": None if estimate.std is None else round(estimate.std, 6),
                        },
                    )
                )
    return found


def _metric_name(name: str, row: Row, estimate: Estimate) -> str:
    label, digits = (METRICS[name].label, METRICS[name].digits) if name in METRICS else (name.replace("_", " "), 3)
    spread = "" if estimate.std is None else f", mean of {estimate.n} seeds ± {estimate.std:.{digits}f}"
    return f"{label} ({row.recipe}, lr {row.learning_rate:g}{spread})"


def _size(rows: int) -> str:
    for limit, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if rows < limit:
            return name
    return "1M<n<10M"
