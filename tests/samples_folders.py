"""Makers of checkpoints that are folders, and of d3rlpy's files, for format_samples.py and tests of readers.

RLlib and d3rlpy are not in the development environment: small files of theirs are in tests/files, with the
scripts that made them and, in truth.npz, what the libraries held.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.distributed.checkpoint as dcp

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES: Final = Path(__file__).parent / "files"


def small_network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def stepped(network: Any, **options: Any) -> Any:
    optimizer = torch.optim.Adam(network.parameters(), **options)
    network(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return optimizer


def dcp_folder(folder: Path, _: object = None) -> Path:
    network = small_network()
    content = {"model": network.state_dict(), "optim": stepped(network).state_dict(), "step": 3}
    return dcp_saved(content, folder / "dcp")


def dcp_saved(content: dict[str, Any], folder: Path) -> Path:
    with warnings.catch_warnings(action="ignore"):  # that no process group is there
        dcp.save(content, checkpoint_id=folder, no_dist=True)
    return folder


def sharded_folder(folder: Path, _: object = None, *, is_safe: bool = True) -> Path:
    from huggingface_hub import save_torch_state_dict  # noqa: PLC0415  slow to import

    path = folder / f"sharded_{'safe' if is_safe else 'torch'}_7_steps"
    path.mkdir()
    save_torch_state_dict(small_network().state_dict(), path, max_shard_size=60, safe_serialization=is_safe)
    return path


def trained_by_trainer(folder: Path, **options: Any) -> Any:
    """A tiny BERT, trained for 20 steps; the Trainer afterwards."""
    import transformers  # noqa: PLC0415  takes seconds

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=20, max_position_embeddings=12, num_labels=3, **sizes)
    rows = [
        {"input_ids": torch.randint(0, 20, (6,)), "labels": torch.tensor(index % 3)} for index in range(32)
    ]
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=20,
        save_steps=10,
        logging_steps=5,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    network = transformers.BertForSequenceClassification(config)
    trainer = transformers.Trainer(network, arguments, train_dataset=rows)
    trainer.train()
    return trainer


def trainer_folder(folder: Path, _: object = None) -> Path:
    trained_by_trainer(folder / "trainer")
    return folder / "trainer" / "checkpoint-20"


def copied(name: str, folder: Path) -> Path:
    """A file or folder of tests/files."""
    source, target = FILES / name, folder / Path(name).name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return target


SAMPLES: Final[Mapping[str, Any]] = {
    "d3rlpy": lambda folder, _: copied("d3rlpy/dead/model_10.d3", folder),
    "rllib": lambda folder, _: copied("rllib/ppo", folder),
    "hf-trainer": trainer_folder,
    "sharded": sharded_folder,
    "dcp": dcp_folder,
    "d3rlpy-run": lambda folder, _: copied("d3rlpy/dead", folder),
}
RECORDS: Final = dict.fromkeys(SAMPLES, "Snapshot") | {"d3rlpy-run": "Timeline"}
