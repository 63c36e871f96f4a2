"""Models of one's own as people write them: none is registered, and none was written for this library.

Each entry of `STYLES` says how one is made, what it is run on and what `growth.widen` is told beside the
module. All sizes of one model are different, so that no dimension can be taken for another.
"""

from __future__ import annotations

from support.own_styles import attention, decoders, dense, images, nested, recurrent
from support.own_styles.style import Style

STYLES: dict[str, Style] = {
    **decoders.STYLES,
    **attention.STYLES,
    **recurrent.STYLES,
    **images.STYLES,
    **dense.STYLES,
    **nested.STYLES,
}
