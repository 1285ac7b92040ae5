"""Check a dataset (downloading it where it is not staged) and write it as prepared arrays.

python workflow/scripts/prepare_dataset.py --dataset mnist --data-dir data --output results/datasets/mnist.npz
"""

import argparse
import sys

from hnetcl import data
from hnetcl.files import require_writable


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=sorted(data.LOADERS))
    parser.add_argument("--data-dir", default="data", help="torchvision root that holds, or will hold, MNIST/raw")
    parser.add_argument("--output", required=True, help="prepared dataset to write (.npz)")
    arguments = parser.parse_args()
    try:
        require_writable(arguments.output.rpartition("/")[0] or ".")
        dataset = data.LOADERS[arguments.dataset](arguments.data_dir)
    except (data.DatasetError, PermissionError) as error:
        sys.exit(f"prepare_dataset: {error}")
    data.save(dataset, arguments.output)
    print(f"{arguments.output}: {len(dataset.train_labels)} training and {len(dataset.test_labels)} test images")


if __name__ == "__main__":
    main()
