"""Messages to a prompt, as each family was trained to read a conversation. One file a family; `choose.py` says which."""

from .choose import BUILT_IN, STOPS, choose_template
from .conversation import Conversation, Messages, Tools
from .file_template import read_source, read_source_file
from .segments import Segment, as_text
from .template import AnswerFormat, ChatTemplate
from .tools import Tool, read_tools

__all__ = [
    "BUILT_IN",
    "STOPS",
    "AnswerFormat",
    "ChatTemplate",
    "Conversation",
    "Messages",
    "Segment",
    "Tool",
    "Tools",
    "as_text",
    "choose_template",
    "read_source",
    "read_source_file",
    "read_tools",
]
