"""A run as one HTML page that needs no network.

files.py     write_html
page.py      the page around the sections: style sheet and script
sections.py  the sections of the page
markup.py    escaped text, tables and tiles

Everything in a run folder is untrusted text: whatever reaches the page passes `escaped` or `for_script`. The page's
Content-Security-Policy forbids every request, so that even a missed case could not send anything.
"""

from nas.report.html.files import write_html

__all__ = ["write_html"]
