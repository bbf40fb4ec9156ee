"""Logs the rewards of self-critical training."""

from detectron2.engine import HookBase

from ..rewards import CaptionReward


class RewardMetrics(HookBase):
    """Logs "caption_reward", the mean reward of a step, and "time/reward" in milliseconds."""

    def __init__(self, reward: CaptionReward) -> None:
        self.reward = reward

    def after_step(self) -> None:
        means, milliseconds = self.reward.means, self.reward.milliseconds
        if means:
            self.trainer.storage.put_scalars(
                caption_reward=sum(means) / len(means), **{"time/reward": sum(milliseconds)}
            )
        means.clear()
        milliseconds.clear()
