#pragma once

// WikiText as lm-evaluation-harness's task "wikitext" reads it: one page after the other, without
// the blanks that its tokenization put around punctuation. Perplexity is then counted per word and
// per byte of the page as it was before.
//
// Sources: lm_eval/tasks/wikitext/preprocess_wikitext.py of lm-eval 0.4.11; the data set script of
// EleutherAI/wikitext_document_level.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"

namespace ram {

struct WikitextPage {
  std::string text;    // What is scored.
  uint64_t words = 0;  // Of the page before: 1 + its runs of white space.
  uint64_t bytes = 0;  // Of the page before, in UTF-8.
};

// The pages of `text`: a page begins at a line with a heading of the first
// level, " = Title = ". A text without one is one page. Rows " ...\n" or "" that are joined by two
// newlines, as in the bundled test set, are first put back to the lines of wiki.test.raw.
// kInvalidArgument if the text is not UTF-8.
Result<std::vector<WikitextPage>> WikitextPages(std::string_view text);

// The lines of wiki.test.raw from such rows; `text` itself if it is none.
std::string UnjoinRows(std::string_view text);

// A page without the blanks around punctuation, brackets and quotes; the rules of
// wikitext_detokenizer in their order. `page` is valid UTF-8.
std::string DetokenizeWikitext(std::string_view page);

}  // namespace ram
