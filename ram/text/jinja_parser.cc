// Recursive descent with the precedences of Jinja 2: or, and, not, comparisons, + -, ~, * / // %,
// **, signs, filters and tests.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "ram/base/number.h"
#include "ram/text/jinja_lexer.h"
#include "ram/text/jinja_syntax.h"

namespace ram::jinja {
namespace {

using Kind = Node::Kind;

// Of nested expressions and blocks: what the stack bears, and far more than people write.
constexpr int kMaxNesting = 100;
constexpr int kMaxTreeDepth = 300;

class Parser {
 public:
  Parser(std::vector<Token> tokens, std::string_view where)
      : tokens_(std::move(tokens)), where_(where) {}

  Result<NodePtr> Run() {
    RAM_ASSIGN_OR_RETURN(NodePtr block, ParseBlock({}));
    return block;
  }

 private:
  // ---- Tokens ----

  const Token& token() const { return tokens_[at_]; }
  bool IsOperator(std::string_view text) const {
    return token().kind == Token::Kind::kOperator && token().text == text;
  }
  bool IsName(std::string_view text) const {
    return token().kind == Token::Kind::kName && token().text == text;
  }
  bool SkipOperator(std::string_view text) {
    if (!IsOperator(text)) return false;
    ++at_;
    return true;
  }
  bool SkipName(std::string_view text) {
    if (!IsName(text)) return false;
    ++at_;
    return true;
  }

  Error Fail(std::string message, ErrorCode code = ErrorCode::kCorrupt) const {
    return ErrorAt(where_, token().line, token().column, Error{code, std::move(message)});
  }
  std::string Found() const {
    switch (token().kind) {
      case Token::Kind::kEnd:
        return "the end";
      case Token::Kind::kPrintEnd:
      case Token::Kind::kBlockEnd:
        return "the end of the tag";
      default:
        return fmt::format("\"{}\"", token().text.substr(0, 60));
    }
  }
  Status Expect(std::string_view text) {
    if (!SkipOperator(text)) return Fail(fmt::format("expected \"{}\", found {}", text, Found()));
    return Done{};
  }
  Result<std::string> ExpectName() {
    if (token().kind != Token::Kind::kName) {
      return Fail(fmt::format("expected a name, found {}", Found()));
    }
    return tokens_[at_++].text;
  }
  Status ExpectBlockEnd() {
    if (token().kind != Token::Kind::kBlockEnd) {
      return Fail(fmt::format("expected the end of the tag, found {}", Found()));
    }
    ++at_;
    return Done{};
  }

  NodePtr New(Kind kind) const { return NewAt(kind, token()); }
  static NodePtr NewAt(Kind kind, const Token& place) {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = place.line;
    node->column = place.column;
    return node;
  }
  // A node of `kind` in the place of its first part.
  static NodePtr Wrap(Kind kind, NodePtr first) {
    auto node = std::make_unique<Node>();
    node->kind = kind;
    node->line = first->line;
    node->column = first->column;
    node->depth = first->depth + 1;
    node->items.push_back(std::move(first));
    return node;
  }

  // Checks what Wrap made, too.
  Status Adopt(Node& parent, NodePtr child) {
    parent.depth = std::max(parent.depth, child == nullptr ? 1 : child->depth + 1);
    parent.items.push_back(std::move(child));
    return CheckTree(parent);
  }
  Status CheckTree(const Node& node) const {
    if (node.depth <= kMaxTreeDepth) return Done{};
    return Fail("an expression of too many parts", ErrorCode::kUnsupported);
  }

  // Counts how deep the recursion is.
  class Nesting {
   public:
    explicit Nesting(int& depth) : depth_(depth) { ++depth_; }
    ~Nesting() { --depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    int& depth_;
  };
  Status CheckNesting() const {
    if (depth_ <= kMaxNesting) return Done{};
    return Fail(fmt::format("nested deeper than {}", kMaxNesting), ErrorCode::kUnsupported);
  }

  // ---- Statements ----

  // Up to one of `ends`, whose name is skipped and in `end_`; up to the end of the text if there
  // are none.
  Result<NodePtr> ParseBlock(const std::vector<std::string_view>& ends) {
    const Nesting nesting(depth_);
    RAM_RETURN_IF_ERROR(CheckNesting());
    NodePtr block = New(Kind::kBlock);
    while (true) {
      if (token().kind == Token::Kind::kEnd) {
        if (ends.empty()) return block;
        return Fail(fmt::format("the text ends without {}", ends.back()));
      }
      if (token().kind == Token::Kind::kText) {
        NodePtr text = New(Kind::kText);
        text->constant = token().text;
        ++at_;
        RAM_RETURN_IF_ERROR(Adopt(*block, std::move(text)));
        continue;
      }
      if (token().kind == Token::Kind::kPrintBegin) {
        NodePtr print = New(Kind::kPrint);
        ++at_;
        RAM_ASSIGN_OR_RETURN(NodePtr value, ParseTuple());
        RAM_RETURN_IF_ERROR(Adopt(*print, std::move(value)));
        if (token().kind != Token::Kind::kPrintEnd) {
          return Fail(fmt::format("expected the end of the tag, found {}", Found()));
        }
        ++at_;
        RAM_RETURN_IF_ERROR(Adopt(*block, std::move(print)));
        continue;
      }
      ++at_;  // {%
      const std::string_view name =
          token().kind == Token::Kind::kName ? std::string_view(token().text) : "";
      if (std::find(ends.begin(), ends.end(), name) != ends.end()) {
        end_ = name;
        ++at_;
        return block;
      }
      RAM_ASSIGN_OR_RETURN(NodePtr statement, ParseStatement());
      RAM_RETURN_IF_ERROR(Adopt(*block, std::move(statement)));
    }
  }

  Result<NodePtr> ParseStatement() {
    const Token place = token();
    RAM_ASSIGN_OR_RETURN(const std::string name, ExpectName());
    if (name == "if") return ParseIf(place);
    if (name == "for") return ParseFor(place);
    if (name == "set") return ParseSet(place);
    if (name == "macro") return ParseMacro(place);
    if (name == "generation") {  // Marks what the model says; renders as its contents.
      RAM_RETURN_IF_ERROR(ExpectBlockEnd());
      RAM_ASSIGN_OR_RETURN(NodePtr block, ParseBlock({"endgeneration"}));
      RAM_RETURN_IF_ERROR(ExpectBlockEnd());
      return block;
    }
    if (name == "break" || name == "continue") {
      if (num_loops_ == 0) return Fail(fmt::format("{} outside of a loop", name));
      NodePtr node = NewAt(name == "break" ? Kind::kBreak : Kind::kContinue, place);
      RAM_RETURN_IF_ERROR(ExpectBlockEnd());
      return node;
    }
    if (name.starts_with("end") || name.starts_with("el")) {
      return ErrorAt(
          where_, place.line, place.column,
          Error{ErrorCode::kCorrupt, fmt::format("{{% {} %}} ends nothing", name.substr(0, 60))});
    }
    return ErrorAt(where_, place.line, place.column,
                   Error{ErrorCode::kUnsupported,
                         fmt::format("{{% {} %}} is not supported", name.substr(0, 60))});
  }

  // Behind `if` or `elif`, up to and with the endif.
  Result<NodePtr> ParseIf(const Token& place) {
    const Nesting nesting(depth_);
    RAM_RETURN_IF_ERROR(CheckNesting());
    NodePtr node = NewAt(Kind::kIf, place);
    RAM_ASSIGN_OR_RETURN(NodePtr condition, ParseTuple());
    RAM_RETURN_IF_ERROR(Adopt(*node, std::move(condition)));
    RAM_RETURN_IF_ERROR(ExpectBlockEnd());
    RAM_ASSIGN_OR_RETURN(NodePtr block, ParseBlock({"elif", "else", "endif"}));
    RAM_RETURN_IF_ERROR(Adopt(*node, std::move(block)));
    if (end_ == "elif") {
      RAM_ASSIGN_OR_RETURN(NodePtr otherwise, ParseIf(place));
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(otherwise)));
      return node;
    }
    if (end_ == "else") {
      RAM_RETURN_IF_ERROR(ExpectBlockEnd());
      RAM_ASSIGN_OR_RETURN(NodePtr otherwise, ParseBlock({"endif"}));
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(otherwise)));
    }
    RAM_RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  Status ParseTargets(std::vector<std::string>& names) {
    const bool has_bracket = SkipOperator("(");
    do {
      RAM_ASSIGN_OR_RETURN(std::string name, ExpectName());
      names.push_back(std::move(name));
    } while (SkipOperator(","));
    return has_bracket ? Expect(")") : Done{};
  }

  Result<NodePtr> ParseFor(const Token& place) {
    NodePtr node = NewAt(Kind::kFor, place);
    RAM_RETURN_IF_ERROR(ParseTargets(node->names));
    if (!SkipName("in")) return Fail(fmt::format("expected \"in\", found {}", Found()));
    RAM_ASSIGN_OR_RETURN(NodePtr iterable, ParseTuple(/*with_conditional=*/false));
    NodePtr filter, block, otherwise;
    if (SkipName("if")) {
      RAM_ASSIGN_OR_RETURN(filter, ParseExpression());
    }
    if (IsName("recursive")) {
      return Fail("recursive loops are not supported", ErrorCode::kUnsupported);
    }
    RAM_RETURN_IF_ERROR(ExpectBlockEnd());
    ++num_loops_;
    RAM_ASSIGN_OR_RETURN(block, ParseBlock({"else", "endfor"}));
    --num_loops_;
    if (end_ == "else") {
      RAM_RETURN_IF_ERROR(ExpectBlockEnd());
      RAM_ASSIGN_OR_RETURN(otherwise, ParseBlock({"endfor"}));
    }
    RAM_RETURN_IF_ERROR(ExpectBlockEnd());
    for (NodePtr* part : {&iterable, &block, &filter, &otherwise}) {
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(*part)));
    }
    return node;
  }

  Result<NodePtr> ParseSet(const Token& place) {
    NodePtr node = NewAt(Kind::kSet, place);
    RAM_RETURN_IF_ERROR(ParseTargets(node->names));
    if (node->names.size() == 1 && SkipOperator(".")) {
      node->kind = Kind::kSetField;
      RAM_ASSIGN_OR_RETURN(std::string field, ExpectName());
      node->names.push_back(std::move(field));
    }
    if (SkipOperator("=")) {
      RAM_ASSIGN_OR_RETURN(NodePtr value, ParseTuple());
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(value)));
      RAM_RETURN_IF_ERROR(ExpectBlockEnd());
      return node;
    }
    if (node->kind == Kind::kSetField || node->names.size() != 1 || IsOperator("|")) {
      return Fail(fmt::format("expected \"=\", found {}", Found()));
    }
    node->kind = Kind::kSetBlock;
    RAM_RETURN_IF_ERROR(ExpectBlockEnd());
    RAM_ASSIGN_OR_RETURN(NodePtr block, ParseBlock({"endset"}));
    RAM_RETURN_IF_ERROR(Adopt(*node, std::move(block)));
    RAM_RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  Result<NodePtr> ParseMacro(const Token& place) {
    if (num_loops_ + num_macros_ > 0) {
      return Fail("a macro in a loop or a macro is not supported", ErrorCode::kUnsupported);
    }
    NodePtr node = NewAt(Kind::kMacro, place);
    RAM_ASSIGN_OR_RETURN(node->text, ExpectName());
    RAM_RETURN_IF_ERROR(Expect("("));
    node->items.emplace_back();
    while (!SkipOperator(")")) {
      if (!node->names.empty()) RAM_RETURN_IF_ERROR(Expect(","));
      RAM_ASSIGN_OR_RETURN(std::string name, ExpectName());
      node->names.push_back(std::move(name));
      if (SkipOperator("=")) {
        RAM_ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
        RAM_RETURN_IF_ERROR(Adopt(*node, std::move(value)));
      } else if (node->items.size() > 1) {
        return Fail("a parameter without a default behind one that has it");
      }
    }
    RAM_RETURN_IF_ERROR(ExpectBlockEnd());
    const int num_loops = std::exchange(num_loops_, 0);
    ++num_macros_;
    RAM_ASSIGN_OR_RETURN(node->items[0], ParseBlock({"endmacro"}));
    node->depth = std::max(node->depth, node->items[0]->depth + 1);
    --num_macros_;
    num_loops_ = num_loops;
    SkipName(node->text);
    RAM_RETURN_IF_ERROR(ExpectBlockEnd());
    return node;
  }

  // ---- Expressions ----

  // One or more with commas between them.
  Result<NodePtr> ParseTuple(bool with_conditional = true) {
    RAM_ASSIGN_OR_RETURN(NodePtr first, with_conditional ? ParseExpression() : ParseOr());
    if (!IsOperator(",")) return first;
    NodePtr tuple = Wrap(Kind::kTuple, std::move(first));
    while (SkipOperator(",")) {
      const bool ends = token().kind == Token::Kind::kPrintEnd ||
                        token().kind == Token::Kind::kBlockEnd || IsOperator(")");
      if (ends) break;
      RAM_ASSIGN_OR_RETURN(NodePtr item, with_conditional ? ParseExpression() : ParseOr());
      RAM_RETURN_IF_ERROR(Adopt(*tuple, std::move(item)));
    }
    return tuple;
  }

  Result<NodePtr> ParseExpression() {
    const Nesting nesting(depth_);
    RAM_RETURN_IF_ERROR(CheckNesting());
    RAM_ASSIGN_OR_RETURN(NodePtr value, ParseOr());
    while (SkipName("if")) {
      RAM_ASSIGN_OR_RETURN(NodePtr condition, ParseOr());
      NodePtr node = Wrap(Kind::kConditional, std::move(condition));
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(value)));
      if (SkipName("else")) {
        RAM_ASSIGN_OR_RETURN(NodePtr otherwise, ParseExpression());
        RAM_RETURN_IF_ERROR(Adopt(*node, std::move(otherwise)));
      }
      value = std::move(node);
    }
    return value;
  }

  // Operators of one level from left to right. Each makes the tree deeper.
  template <typename Next>
  Result<NodePtr> ParseChain(std::initializer_list<std::string_view> operators, bool are_names,
                             Kind kind, Next next) {
    RAM_ASSIGN_OR_RETURN(NodePtr left, next());
    while (true) {
      std::string found;
      for (const std::string_view text : operators) {
        if (are_names ? IsName(text) : IsOperator(text)) found = text;
      }
      if (found.empty()) return left;
      ++at_;
      RAM_ASSIGN_OR_RETURN(NodePtr right, next());
      if (left->kind == kind && left->text == found &&
          (kind == Kind::kOr || kind == Kind::kAnd || found == "+" || found == "~")) {
        RAM_RETURN_IF_ERROR(
            Adopt(*left, std::move(right)));  // As many operands as there are: no deep trees.
        continue;
      }
      left = Wrap(kind, std::move(left));
      left->text = std::move(found);
      RAM_RETURN_IF_ERROR(Adopt(*left, std::move(right)));
    }
  }

  Result<NodePtr> ParseOr() {
    return ParseChain({"or"}, /*are_names=*/true, Kind::kOr, [this] { return ParseAnd(); });
  }
  Result<NodePtr> ParseAnd() {
    return ParseChain({"and"}, /*are_names=*/true, Kind::kAnd, [this] { return ParseNot(); });
  }

  Result<NodePtr> ParseNot() {
    if (!IsName("not")) return ParseCompare();
    const Nesting nesting(depth_);
    RAM_RETURN_IF_ERROR(CheckNesting());
    NodePtr node = New(Kind::kNot);
    ++at_;
    RAM_ASSIGN_OR_RETURN(NodePtr operand, ParseNot());
    RAM_RETURN_IF_ERROR(Adopt(*node, std::move(operand)));
    return node;
  }

  Result<NodePtr> ParseCompare() {
    RAM_ASSIGN_OR_RETURN(NodePtr first, ParseSum());
    NodePtr node;
    while (true) {
      std::string found;
      for (const std::string_view text : {"==", "!=", "<=", ">=", "<", ">"}) {
        if (IsOperator(text)) found = text;
      }
      if (IsName("in")) found = "in";
      const bool is_not_in = IsName("not") && tokens_[at_ + 1].kind == Token::Kind::kName &&
                             tokens_[at_ + 1].text == "in";
      if (is_not_in) found = "not in";
      if (found.empty()) return node == nullptr ? std::move(first) : std::move(node);
      at_ += is_not_in ? 2 : 1;
      if (node == nullptr) node = Wrap(Kind::kCompare, std::move(first));
      RAM_ASSIGN_OR_RETURN(NodePtr operand, ParseSum());
      node->names.push_back(std::move(found));
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(operand)));
    }
  }

  Result<NodePtr> ParseSum() {
    return ParseChain({"+", "-"}, /*are_names=*/false, Kind::kBinary, [this] {
      return ParseChain({"~"}, /*are_names=*/false, Kind::kBinary, [this] {
        return ParseChain({"*", "/", "//", "%"}, /*are_names=*/false, Kind::kBinary, [this] {
          return ParseChain({"**"}, /*are_names=*/false, Kind::kBinary,
                            [this] { return ParseUnary(/*with_filters=*/true); });
        });
      });
    });
  }

  Result<NodePtr> ParseUnary(bool with_filters) {
    const Nesting nesting(depth_);
    RAM_RETURN_IF_ERROR(CheckNesting());
    NodePtr node;
    if (IsOperator("-") || IsOperator("+")) {
      node = New(IsOperator("-") ? Kind::kNegative : Kind::kPlus);
      ++at_;
      RAM_ASSIGN_OR_RETURN(NodePtr operand, ParseUnary(/*with_filters=*/false));
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(operand)));
    } else {
      RAM_ASSIGN_OR_RETURN(node, ParsePrimary());
    }
    RAM_ASSIGN_OR_RETURN(node, ParsePostfix(std::move(node)));
    return with_filters ? ParseFilters(std::move(node)) : std::move(node);
  }

  Result<NodePtr> ParsePrimary() {
    NodePtr node = New(Kind::kConstant);
    const Token& first = token();
    switch (first.kind) {
      case Token::Kind::kName:
        ++at_;
        if (first.text == "true" || first.text == "True") {
          node->constant = true;
        } else if (first.text == "false" || first.text == "False") {
          node->constant = false;
        } else if (first.text != "none" && first.text != "None") {
          node->kind = Kind::kName;
          node->text = first.text;
        }
        return node;
      case Token::Kind::kString: {
        std::string text = first.text;  // Strings side by side are one.
        for (++at_; token().kind == Token::Kind::kString; ++at_) text += token().text;
        node->constant = std::move(text);
        return node;
      }
      case Token::Kind::kInteger:
      case Token::Kind::kFloat: {
        const char* const end = first.text.data() + first.text.size();
        int64_t whole = 0;
        const bool is_whole = first.kind == Token::Kind::kInteger;
        const std::optional<double> real = ParseDouble(first.text);
        if (is_whole ? std::from_chars(first.text.data(), end, whole).ec != std::errc() : !real) {
          return Fail("a number that is too large");
        }
        node->constant = is_whole ? Value(whole) : Value(*real);
        ++at_;
        return node;
      }
      default:
        break;
    }
    if (SkipOperator("(")) {
      if (SkipOperator(")")) {
        node->kind = Kind::kTuple;
        return node;
      }
      RAM_ASSIGN_OR_RETURN(NodePtr inner, ParseTuple());
      RAM_RETURN_IF_ERROR(Expect(")"));
      return inner;
    }
    if (SkipOperator("[")) {
      node->kind = Kind::kList;
      while (!SkipOperator("]")) {
        if (!node->items.empty()) RAM_RETURN_IF_ERROR(Expect(","));
        if (SkipOperator("]")) break;
        RAM_ASSIGN_OR_RETURN(NodePtr item, ParseExpression());
        RAM_RETURN_IF_ERROR(Adopt(*node, std::move(item)));
      }
      return node;
    }
    if (SkipOperator("{")) {
      node->kind = Kind::kDict;
      while (!SkipOperator("}")) {
        if (!node->items.empty()) RAM_RETURN_IF_ERROR(Expect(","));
        if (SkipOperator("}")) break;
        RAM_ASSIGN_OR_RETURN(NodePtr key, ParseExpression());
        RAM_RETURN_IF_ERROR(Expect(":"));
        RAM_ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
        RAM_RETURN_IF_ERROR(Adopt(*node, std::move(key)));
        RAM_RETURN_IF_ERROR(Adopt(*node, std::move(value)));
      }
      return node;
    }
    return Fail(fmt::format("expected a value, found {}", Found()));
  }

  // The arguments of a call, behind its bracket; into `node`.
  Status ParseArguments(Node& node) {
    bool is_first = true;
    while (!SkipOperator(")")) {
      if (!is_first) RAM_RETURN_IF_ERROR(Expect(","));
      if (SkipOperator(")")) break;
      is_first = false;
      if (IsOperator("*") || IsOperator("**")) {
        return Fail("* in arguments is not supported", ErrorCode::kUnsupported);
      }
      const bool is_named = token().kind == Token::Kind::kName &&
                            tokens_[at_ + 1].kind == Token::Kind::kOperator &&
                            tokens_[at_ + 1].text == "=";
      if (is_named) {
        node.names.push_back(token().text);
        at_ += 2;
      } else if (!node.names.empty()) {
        return Fail("an argument without a name behind one that has it");
      }
      RAM_ASSIGN_OR_RETURN(NodePtr value, ParseExpression());
      RAM_RETURN_IF_ERROR(Adopt(node, std::move(value)));
    }
    return Done{};
  }

  Result<NodePtr> ParsePostfix(NodePtr node) {
    while (true) {
      RAM_RETURN_IF_ERROR(CheckTree(*node));
      const Token& place = token();
      if (SkipOperator(".")) {
        node = Wrap(Kind::kField, std::move(node));
        node->line = place.line;
        node->column = place.column;
        RAM_ASSIGN_OR_RETURN(node->text, ExpectName());
      } else if (SkipOperator("[")) {
        RAM_ASSIGN_OR_RETURN(node, ParseSubscript(std::move(node)));
      } else if (SkipOperator("(")) {
        node = Wrap(Kind::kCall, std::move(node));
        node->line = place.line;
        node->column = place.column;
        RAM_RETURN_IF_ERROR(ParseArguments(*node));
      } else {
        return node;
      }
    }
  }

  Result<NodePtr> ParseSubscript(NodePtr object) {
    NodePtr node = Wrap(Kind::kItem, std::move(object));
    NodePtr begin, end, step;
    if (!IsOperator(":")) {
      RAM_ASSIGN_OR_RETURN(begin, ParseExpression());
    }
    RAM_RETURN_IF_ERROR(Adopt(*node, std::move(begin)));
    if (SkipOperator(":")) {
      node->kind = Kind::kSlice;
      if (!IsOperator(":") && !IsOperator("]")) {
        RAM_ASSIGN_OR_RETURN(end, ParseExpression());
      }
      if (SkipOperator(":") && !IsOperator("]")) {
        RAM_ASSIGN_OR_RETURN(step, ParseExpression());
      }
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(end)));
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(step)));
    }
    RAM_RETURN_IF_ERROR(Expect("]"));
    return node;
  }

  Result<NodePtr> ParseFilters(NodePtr node) {
    while (true) {
      RAM_RETURN_IF_ERROR(CheckTree(*node));
      const Token& place = token();
      if (SkipOperator("|")) {
        node = Wrap(Kind::kFilter, std::move(node));
        node->line = place.line;
        node->column = place.column;
        RAM_ASSIGN_OR_RETURN(node->text, ExpectName());
        if (SkipOperator("(")) RAM_RETURN_IF_ERROR(ParseArguments(*node));
      } else if (SkipName("is")) {
        RAM_ASSIGN_OR_RETURN(node, ParseTest(std::move(node), place));
      } else if (IsOperator("(")) {  // Behind a filter: x | f(1)(2).
        return Fail("a call of a filter's result is not supported", ErrorCode::kUnsupported);
      } else {
        return node;
      }
    }
  }

  // Behind `is`: a test's name, its arguments in brackets or one without.
  Result<NodePtr> ParseTest(NodePtr operand, const Token& place) {
    const bool is_negated = SkipName("not");
    NodePtr node = Wrap(Kind::kTest, std::move(operand));
    node->line = place.line;
    node->column = place.column;
    RAM_ASSIGN_OR_RETURN(node->text, ExpectName());
    const Token& next = token();
    const bool is_word = next.kind == Token::Kind::kName;
    const bool ends = is_word && (next.text == "else" || next.text == "or" || next.text == "and" ||
                                  next.text == "is" || next.text == "if" || next.text == "not" ||
                                  next.text == "in");
    const bool is_value = is_word || next.kind == Token::Kind::kString ||
                          next.kind == Token::Kind::kInteger || next.kind == Token::Kind::kFloat ||
                          IsOperator("[") || IsOperator("{");
    if (SkipOperator("(")) {
      RAM_RETURN_IF_ERROR(ParseArguments(*node));
    } else if (is_value && !ends) {
      RAM_ASSIGN_OR_RETURN(NodePtr argument, ParsePrimary());
      RAM_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
      RAM_RETURN_IF_ERROR(Adopt(*node, std::move(argument)));
    }
    return is_negated ? Wrap(Kind::kNot, std::move(node)) : std::move(node);
  }

  std::vector<Token> tokens_;
  std::string_view where_;
  size_t at_ = 0;
  std::string_view end_;  // What ended the last block.
  int depth_ = 0;
  int num_loops_ = 0;
  int num_macros_ = 0;
};

}  // namespace

Result<NodePtr> ParseTemplate(std::string_view text, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(std::vector<Token> tokens, CutIntoTokens(text, where));
  return Parser(std::move(tokens), where).Run();
}

}  // namespace ram::jinja
