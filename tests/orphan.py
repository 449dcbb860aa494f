"""A worker of torchrun that only writes, for tests/test_orphans.py: torchrun ... tests/orphan.py FOLDER soon|late"""

import os
import sys
import time
from pathlib import Path

from prorl_lab.run_folder import replacing
from prorl_scale import distributed


def main(folder: Path) -> int:
    rank = os.environ["RANK"]
    for number in range(10**9):
        with replacing(folder / f"written-{rank}") as file:
            file.write(f"{number}\n".encode() * 1000)
        with replacing(folder / f"pid-{rank}") as file:
            file.write(str(os.getpid()).encode())
        time.sleep(0.01)
    return 0


if __name__ == "__main__":
    if sys.argv[2] == "late":  # the agent dies before the worker asks to die with it
        (Path(sys.argv[1]) / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
        while os.getppid() != 1:
            time.sleep(0.01)
    distributed.leave(lambda: main(Path(sys.argv[1])))
