from vgbench.api.index import Index as Index
from vgbench.api.index import Match as Match
from vgbench.api.index import Matches as Matches
from vgbench.api.network import Described as Described
from vgbench.api.network import LoadedNetwork as LoadedNetwork
from vgbench.api.network import load_network as load_network
from vgbench.api.settings import eval_settings as eval_settings
from vgbench.api.settings import train_settings as train_settings
from vgbench.errors import UserError as UserError
from vgbench.runs.eval_run import evaluate as evaluate
from vgbench.runs.results import EvalResult as EvalResult
from vgbench.runs.results import TrainResult as TrainResult
from vgbench.runs.settings import EvalSettings as EvalSettings
from vgbench.runs.settings import TrainSettings as TrainSettings
from vgbench.runs.train_run import train as train

__version__: str
