// Python's str operations on marked text, shared by filters and methods. Every character keeps its
// mark; inserted characters bring theirs.
#pragma once

#include <cstddef>
#include <vector>

#include "base/result.h"
#include "text/jinja_value.h"

namespace ultraspeed::text::jinja {

// The first place of `wanted` at or behind `from`, or npos. Takes linear time, charged to the heap.
size_t find_text(Heap& heap, std::string_view text, std::string_view wanted, size_t from = 0);
// The last place of `wanted`, or npos. Charged by its worst case, text times wanted.
size_t find_last_text(Heap& heap, std::string_view text, std::string_view wanted);

enum class Side : uint8_t { kLeft, kRight, kBoth };

// Without `chars`, white space; else any of its characters.
Text strip(Heap& heap, const Text& text, const Text* chars, Side side);

Text upper(Heap& heap, const Text& text);
Text lower(Heap& heap, const Text& text);
Text capitalize(Heap& heap, const Text& text);
// str.title(): a word begins at a cased letter after anything else.
Text title(Heap& heap, const Text& text);
// The title filter: a word begins after white space and any of -({[<.
Text title_words(Heap& heap, const Text& text);
// The characters in reverse order.
Text reverse(Heap& heap, const Text& text);

// The first `count` occurrences, or all when negative.
Text replace(Heap& heap, const Text& text, const Text& old_text, const Text& new_text,
             Integer count);

// Splits at white space without a separator; at most `max_splits` times when not negative.
Result<std::vector<Value>> split(Heap& heap, const Text& text, const Text* separator,
                                 Integer max_splits);
// The same from the end. REQUIRES: a separator.
Result<std::vector<Value>> split_right(Heap& heap, const Text& text, const Text& separator,
                                       Integer max_splits);
std::vector<Text> split_lines(Heap& heap, const Text& text);

}  // namespace ultraspeed::text::jinja
