"""The short help of the commands that have many options; `--help.all` lists all of them."""

TRAIN = """
usage: {command} --config FILE.yaml [--any.key value ...]

Trains what a config describes. Its files go to runs/NAME: config.yaml, metrics.csv, samples.png, TensorBoard events,
and checkpoints/best.ckpt and last.ckpt.

the run
  --config FILE.yaml            what to train; several are merged, and the last one wins
  --name NAME                   name of the run, and of its folder below --runs
  --overwrite true              start anew in the folder of an earlier run
  --seed_everything 0           seed of all random numbers

the length and the machine
  --trainer.max_epochs 10       passes over the data
  --trainer.max_time 00:01:00:00  days, hours, minutes and seconds, at most
  --trainer.accelerator gpu     cpu or gpu; by default the best that there is
  --trainer.devices 2           how many of them; add --trainer.strategy ddp
  --trainer.precision bf16-mixed  16 bits where they suffice
  --dry_run true                print the memory, the time and the steps of the run, and end
  --trainer.fast_dev_run true   train for one batch, write no files, and end

the model and the data
  --model.learner CLASS         the model, such as FlowMatching; `fibermodels list models` lists all
  --model.fiber.weight 10       weight of the fiber loss
  --model.learning_rate 0.001   the largest learning rate
  --subject FILE.yaml           the frozen network under study
  --data FILE.yaml              the images
  --data.batch_size 64          images per batch

from an earlier run
  --ckpt_path last              resume; `auto` takes the newest checkpoint that is whole, if there is one
  --start_from CHECKPOINT       start with the weights of another run
  --adapt_from CHECKPOINT       start with those weights of another subject or layer that fit

help
  --print_config                print the config with all its values, and end
  --model.learner.help CLASS    the arguments of a class; the same for --data.help and --subject.help
  --help.all                    all options

examples
  {command} --config configs/quickstart.yaml
  {command} --config configs/quickstart.yaml --model.fiber.weight 10 --name fiber10
  {command} --config configs/quickstart.yaml --ckpt_path last --trainer.max_epochs 600
"""

EVALUATE = """
usage: {command} (--checkpoint FILE.ckpt | --model FILE.yaml) --out DIR [options]

Draws samples for test images once, scores them, and writes DIR/metrics.json, samples.safetensors, samples.png and
ranks.png. A command that was interrupted continues when it is repeated.

what to score
  --checkpoint FILE.ckpt        a trained model: runs/NAME/checkpoints/best.ckpt
  --model FILE.yaml             a model that needs no training, such as configs/digits/oracle.yaml
  --model.ARGUMENT VALUE        another value of an argument of the model
  --subject, --data             another subject or other data for a --model file
  --out DIR                     folder of the result
  --overwrite true              replace an earlier result
  --tensorboard true            also write metrics and figures for TensorBoard
  --name NAME                   name of the result in tables

the samples
  --num_targets 1000            inputs whose fibers are sampled; by default at most all of the split
  --samples_per_target 10       samples of each
  --split test                  test, or val to choose settings
  --seed 0                      seed of the samples
  --device cpu                  cpu or cuda; by default the accelerator, if there is one
  --processes 1                 processes that share the work

other networks that score
  --classifier FILE.yaml        the subject's own classifier: top1_match, and accuracy if labels exist
  --judges.NAME FILE.yaml       another classifier: top1_match_NAME
  --features.NAME FILE.yaml     a network for distances in its features: fid_NAME, kid_NAME
  --reference DIR               a result whose samples they compare with, too: fid_NAME_reference, kid_NAME_reference

a comparison
  --compare DIR [DIR ...]       results to put into one table and figure in --out

help
  --print_config                print the options with all their values, and end
  --help.all                    all options

examples
  {command} --checkpoint runs/quickstart/checkpoints/best.ckpt --out results/mine
  {command} --model configs/digits/oracle.yaml --num_targets 250 --out results/oracle
  {command} --compare results/mine results/oracle --out results/both
"""

PAGES = {"train": TRAIN, "evaluate": EVALUATE}
"""The pages by command; `{command}` stands for how the user calls it."""
