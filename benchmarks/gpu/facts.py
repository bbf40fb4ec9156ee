"""What the results of a GPU depend on."""

import subprocess
from typing import Any

import torch

SMI_FIELDS = (
    *("driver_version", "pstate", "temperature.gpu", "power.draw", "power.limit"),
    *("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "utilization.gpu"),
)


def gpu_facts(device: torch.device) -> dict[str, Any]:
    """Versions, devices and, as nvidia-smi names them, their clocks; {} for a CPU."""
    if device.type != "cuda":
        return {}
    devices = [
        torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())
    ]
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        "devices": [
            {
                "name": each.name,
                "memory_bytes": each.total_memory,
                "multiprocessors": each.multi_processor_count,
                "capability": f"{each.major}.{each.minor}",
            }
            for each in devices
        ],
        "nvidia-smi": _nvidia_smi(),
    }


def _nvidia_smi() -> list[dict[str, str]]:
    """The current values of each device; [] if the program is missing or fails."""
    command = ["nvidia-smi", f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [
        dict(zip(SMI_FIELDS, map(str.strip, line.split(",")), strict=False))
        for line in output.stdout.splitlines()
    ]
