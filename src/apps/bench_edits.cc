#include "apps/bench_edits.h"

namespace ultraspeed::apps {
namespace {

// One blank line ends a copy, or two where the code has blank lines of its own.
constexpr std::string_view kBlankLine = "\n\n";
constexpr std::string_view kTwoBlankLines = "\n\n\n";

constexpr BenchEdit kEdits[] = {
    {.name = "edit-py-count",
     .text = R"(def count_words(text, separator):
    """Return the number of words in the text."""
    result = 0
    for word in text.split(separator):
        if len(word) > 0:
            result += 1
    return result


def count_lines(text, separator):
    """Return the number of lines in the text."""
    result = 0
    for line in text.split(separator):
        if len(line) > 0:
            result += 1
    return result


def count_items(text, separator):
)",
     .stop = kTwoBlankLines},
    {.name = "edit-py-class",
     .text = R"(class Circle:
    """A circle with a name and a radius."""

    def __init__(self, name, radius):
        self.name = name
        self.radius = radius


class Sphere:
    """A sphere with a name and a radius."""

    def __init__(self, name, radius):
        self.name = name
        self.radius = radius


class Cylinder:
)",
     .stop = kTwoBlankLines},
    {.name = "edit-py-test",
     .text = R"(    def test_add(self):
        result = self.calculator.add(2, 3)
        self.assertEqual(result, 5)
        self.assertIsInstance(result, int)

    def test_sub(self):
        result = self.calculator.sub(2, 3)
        self.assertEqual(result, -1)
        self.assertIsInstance(result, int)

    def test_mul(self):
)",
     .stop = kBlankLine},
    {.name = "edit-py-fix",
     .text = R"(# Before:
def average(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)

# After:
def average(values):
    total = 0
)",
     .stop = kBlankLine},
    {.name = "edit-py-prop",
     .text = R"(    @property
    def width(self):
        """Return the width of the image."""
        return self._width

    @property
    def height(self):
        """Return the height of the image."""
        return self._height

    @property
    def depth(self):
)",
     .stop = kBlankLine},
    {.name = "edit-c-read",
     .text = R"(int read_header(FILE *file, struct header *header)
{
    size_t count = fread(header, 1, sizeof(*header), file);
    if (count != sizeof(*header)) {
        fprintf(stderr, "cannot read the header\n");
        return -1;
    }
    return 0;
}

int read_footer(FILE *file, struct footer *footer)
{
)",
     .stop = kBlankLine},
    {.name = "edit-c-write",
     .text = R"(int write_u16(FILE *file, unsigned int value)
{
    if (fputc(value & 0xff, file) == EOF)
        return -1;
    if (fputc((value >> 8) & 0xff, file) == EOF)
        return -1;
    return 0;
}

int write_u32(FILE *file, unsigned int value)
{
)",
     .stop = kBlankLine},
    {.name = "edit-cpp-vector",
     .text = R"(Vector3 operator+(const Vector3& a, const Vector3& b) {
  Vector3 result;
  result.x = a.x + b.x;
  result.y = a.y + b.y;
  result.z = a.z + b.z;
  return result;
}

Vector3 operator-(const Vector3& a, const Vector3& b) {
)",
     .stop = kBlankLine},
    {.name = "edit-cpp-find",
     .text = R"(int find_first(const std::vector<int>& values, int wanted) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] == wanted) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

int find_last(const std::vector<int>& values, int wanted) {
)",
     .stop = kBlankLine},
    {.name = "edit-cpp-getter",
     .text = R"(const std::string& Config::host() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return host_;
}

const std::string& Config::user() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return user_;
}

const std::string& Config::name() const {
)",
     .stop = kBlankLine},
    {.name = "edit-cpp-swap",
     .text = R"(template <class T>
void swap_values(T& a, T& b) {
  T temporary = std::move(a);
  a = std::move(b);
  b = std::move(temporary);
}

template <class T>
void rotate_values(T& a, T& b, T& c) {
)",
     .stop = kBlankLine},
};

}  // namespace

std::span<const BenchEdit> bench_edits() {
  return kEdits;
}

}  // namespace ultraspeed::apps
