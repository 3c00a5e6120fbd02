"""A node that cannot know whether an earlier process of its own has ended, as where a system names no boot.

The modules of the specification that check traces leave out what such a process says (:mod:`tests.specification`).
"""

from unittest import mock

from trioraft.cli.main import main
from trioraft.storage import database

if __name__ == "__main__":
    mock.patch.object(database, "place_of", return_value="").start()
    main()
