#pragma once

// The syntax of chat templates: a part of Jinja 2, with the settings that chat templates are
// written for (trim_blocks and lstrip_blocks, loop controls, generation blocks).

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/text/jinja_value.h"

namespace ram::jinja {

struct Node {
  enum class Kind : uint8_t {
    // Statements.
    kBlock,     // items: statements
    kText,      // constant
    kPrint,     // items: expression
    kIf,        // items: condition, block, [else block]
    kFor,       // names: targets; items: iterable, block, [filter or null], [else block or null]
    kSet,       // names: targets; items: expression
    kSetField,  // names: namespace, field; items: expression
    kSetBlock,  // names: target; items: block
    kMacro,     // text: name; names: parameters; items: block, defaults of the last parameters
    kBreak,
    kContinue,
    // Expressions.
    kConstant,     // constant
    kName,         // text
    kList,         // items
    kTuple,        // items
    kDict,         // items: key, value, key, value, ...
    kField,        // text: after the dot; items: object
    kItem,         // items: object, key
    kSlice,        // items: object, begin, end, step (null where left out)
    kCall,         // items: callee, positional arguments, then those of `names`
    kFilter,       // text: name; items: value, arguments as of kCall
    kTest,         // text: name; items: value, arguments as of kCall
    kNot,          // items: operand
    kNegative,     // items: operand
    kPlus,         // items: operand
    kOr,           // items: two
    kAnd,          // items: two
    kBinary,       // text: + - * / // % ** ~; items: two
    kCompare,      // names: operators; items: one more operand
    kConditional,  // items: condition, value, [other value]
  };

  Kind kind;
  uint32_t line = 1, column = 1;
  int depth = 1;  // Of the tree below.
  std::string text;
  Value constant;
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Node>> items;
};

using NodePtr = std::unique_ptr<Node>;

// The template as one kBlock. kUnsupported for parts of Jinja that are not known here, kCorrupt for
// mistakes; both begin with "`where`: line L, column C: ".
Result<NodePtr> ParseTemplate(std::string_view text, std::string_view where);

// "chat_template.jinja: line 3, column 7: message".
Error ErrorAt(std::string_view where, uint32_t line, uint32_t column, const Error& error);

}  // namespace ram::jinja
