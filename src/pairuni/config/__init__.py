"""Typed settings of runs, pairs, evaluations and rewards, loaded from TOML recipes and dotted overrides.

Does not import torch.
"""

from pairuni.config.base import Inputs, Settings, UserPath, split_list
from pairuni.config.endpoint import EndpointSettings
from pairuni.config.evaluation import (
    DigitsEditsSettings,
    DigitsSettings,
    GenEvalJudgingSettings,
    GenEvalSettings,
    ImgEditSettings,
    MMMUSettings,
    MMStarSettings,
    ScoreSettings,
    SuiteSettings,
    WISESettings,
    YesNoSettings,
)
from pairuni.config.loading import load_settings
from pairuni.config.messages import section_classes, setting_keys
from pairuni.config.models import AnswerSettings, DrawSettings, EditSettings
from pairuni.config.pairgrpo import (
    PairGRPOSettings,
    PairWeight,
    Schedule,
    TaskOrder,
    TokenReduction,
)
from pairuni.config.pairs import Clustering, CompletionSettings, Matching, PairsSettings, Selection
from pairuni.config.policy import (
    Emu3Settings,
    JanusSettings,
    LoRASettings,
    LuminaDimooSettings,
    PolicySettings,
)
from pairuni.config.recipes import find_recipe, shipped_recipe
from pairuni.config.rewards import (
    ClipSettings,
    CompositionSettings,
    HPSv2Settings,
    JudgeSettings,
    PickScoreSettings,
    RemoteSettings,
    RewardNormalisation,
    RewardSettings,
)
from pairuni.config.run import (
    CheckpointSettings,
    DataSettings,
    DistributedSettings,
    EvaluationSettings,
    LoggingSettings,
    LogProbBranchName,
    Pairing,
    RolloutSettings,
    RunSettings,
)
from pairuni.config.study import StudyRow, StudySettings
from pairuni.config.toml import to_toml

__all__ = [
    "AnswerSettings",
    "CheckpointSettings",
    "ClipSettings",
    "Clustering",
    "CompletionSettings",
    "CompositionSettings",
    "DataSettings",
    "DigitsEditsSettings",
    "DigitsSettings",
    "DistributedSettings",
    "DrawSettings",
    "EditSettings",
    "Emu3Settings",
    "EndpointSettings",
    "EvaluationSettings",
    "GenEvalJudgingSettings",
    "GenEvalSettings",
    "HPSv2Settings",
    "ImgEditSettings",
    "Inputs",
    "JanusSettings",
    "JudgeSettings",
    "LoRASettings",
    "LogProbBranchName",
    "LoggingSettings",
    "LuminaDimooSettings",
    "MMMUSettings",
    "MMStarSettings",
    "Matching",
    "PairGRPOSettings",
    "PairWeight",
    "Pairing",
    "PairsSettings",
    "PickScoreSettings",
    "PolicySettings",
    "RemoteSettings",
    "RewardNormalisation",
    "RewardSettings",
    "RolloutSettings",
    "RunSettings",
    "Schedule",
    "ScoreSettings",
    "Selection",
    "Settings",
    "StudyRow",
    "StudySettings",
    "SuiteSettings",
    "TaskOrder",
    "TokenReduction",
    "UserPath",
    "WISESettings",
    "YesNoSettings",
    "find_recipe",
    "load_settings",
    "section_classes",
    "setting_keys",
    "shipped_recipe",
    "split_list",
    "to_toml",
]
