#include "ram/text/jinja_evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "ram/text/jinja_builtins.h"

namespace ram::jinja {
namespace {

constexpr uint64_t kMaxSteps = 10'000'000;
constexpr uint64_t kStepsOfTurn = 20;  // What `loop` costs.
constexpr int kMaxDepth = 600;
constexpr int64_t kMaxRange = 100'000;  // As in Jinja's sandbox.

// What ended a block.
enum class Flow : uint8_t { kNext, kBreak, kContinue };

// Names of a block: of the template, a turn of a loop, or a call of a macro.
struct Scope {
  const Scope* parent;
  Variables variables;

  const Value* Find(std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
      for (const auto& [key, value] : scope->variables) {
        if (key == name) return &value;
      }
    }
    return nullptr;
  }
  void Set(std::string_view name, Value value) {
    for (auto& [key, old] : variables) {
      if (key == name) {
        old = std::move(value);
        return;
      }
    }
    variables.push_back({std::string(name), std::move(value)});
  }
};

Result<Value> MakeRange(const Arguments& arguments) {
  std::array<int64_t, 3> bounds = {0, 0, 1};
  const size_t count = arguments.positional.size();
  if (count < 1 || count > 3) return Mistake("range needs one to three numbers");
  for (size_t i = 0; i < count; ++i) {
    const Value& bound = arguments.positional[i];
    if (!bound.is_int() || bound.AsInt() > INT32_MAX || bound.AsInt() < INT32_MIN) {
      return Mistake("range needs whole numbers");
    }
    bounds[count == 1 ? 1 : i] = bound.AsInt();
  }
  const auto [begin, end, step] = bounds;
  if (step == 0) return Mistake("a range with step 0");
  std::vector<Value> items;
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    items.push_back(i);
    if (static_cast<int64_t>(items.size()) > kMaxRange) {
      return NotSupported(fmt::format("a range of more than {} numbers", kMaxRange));
    }
  }
  return Value::OfList(std::move(items));
}

Result<Value> RaiseException(const Arguments& arguments) {
  const Value* message = arguments.Get(0, "message");
  RAM_ASSIGN_OR_RETURN(std::string text, ToText(message == nullptr ? Value("") : *message));
  return Mistake("the template refuses: " + text.substr(0, 1000));
}

Result<Value> FormatNow(const Arguments& arguments) {
  const Value* format = arguments.Get(0, "format");
  if (format == nullptr || !format->is_text()) return Mistake("strftime_now needs a format");
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  if (::localtime_r(&now, &local) == nullptr) return Mistake("there is no local time");
  std::array<char, 1024> buffer = {};
  const std::string& text = format->text();
  const size_t size = std::strftime(buffer.data(), buffer.size(), text.c_str(), &local);
  if (size == 0 && !text.empty()) return NotSupported("a time of more than 1 KiB");
  return Value(std::string(buffer.data(), size));
}

Result<Value> MakeNamespace(const Arguments& arguments) {
  Dict dict;
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (!from.is_dict()) return Mistake("namespace needs a dictionary");
    dict.entries = from.dict().entries;
    dict.depth = from.dict().depth;
  }
  for (const auto& [name, value] : arguments.named) {
    if (value.is_dict() && value.dict().is_namespace) {
      return NotSupported("a namespace in a namespace");
    }
    dict.Set(name, value);
  }
  if (dict.depth > kMaxValueDepth) return NotSupported("values that are nested too deep");
  return Value::OfNamespace(std::move(dict));
}

class Evaluator {
 public:
  Evaluator(const Variables& variables, std::string_view where)
      : where_(where), globals_{nullptr, variables}, root_{&globals_, {}} {
    const auto add = [&](const char* name, auto* call) {
      if (globals_.Find(name) == nullptr) globals_.Set(name, Value(Function{name, call}));
    };
    add("range", MakeRange);
    add("raise_exception", RaiseException);
    add("strftime_now", FormatNow);
    add("namespace", MakeNamespace);
    add(
        "dict", +[](const Arguments& arguments) { return Value::OfDict(arguments.named); });
  }

  Result<std::string> Run(const Node& block) {
    RAM_ASSIGN_OR_RETURN(const Flow flow, Execute(block, root_));
    RAM_CHECK(flow == Flow::kNext);  // The parser allows breaks in loops only.
    return std::move(out_);
  }

 private:
  // Adds the place to an error, once.
  template <typename T>
  Result<T> Located(const Node& node, Result<T> result) {
    if (result.ok() || is_located_) return result;
    is_located_ = true;
    return ErrorAt(where_, node.line, node.column, result.error());
  }

  Status Charge(uint64_t steps) {
    steps_ += steps;
    if (steps_ > kMaxSteps) return NotSupported("the template takes too many steps");
    return Done{};
  }

  // What it costs to make a value.
  static uint64_t CostOf(const Value& value) {
    if (value.is_text()) return value.text().size() / 32;
    return value.is_list() ? value.list().size() / 4 : 0;
  }

  // ---- Statements ----

  Result<Flow> Execute(const Node& node, Scope& scope) {
    ++depth_;
    Result<Flow> flow = depth_ > kMaxDepth ? Result<Flow>(NotSupported("nested too deep"))
                                           : ExecuteNode(node, scope);
    --depth_;
    return Located(node, std::move(flow));
  }

  Result<Flow> ExecuteNode(const Node& node, Scope& scope) {
    RAM_RETURN_IF_ERROR(Charge(1));
    switch (node.kind) {
      case Node::Kind::kBlock:
        for (const NodePtr& statement : node.items) {
          RAM_ASSIGN_OR_RETURN(const Flow flow, Execute(*statement, scope));
          if (flow != Flow::kNext) return flow;
        }
        return Flow::kNext;
      case Node::Kind::kText:
        RAM_RETURN_IF_ERROR(Print(node.constant.text()));
        return Flow::kNext;
      case Node::Kind::kPrint: {
        RAM_ASSIGN_OR_RETURN(const Value value, Evaluate(*node.items[0], scope));
        RAM_ASSIGN_OR_RETURN(const std::string text, ToText(value));
        RAM_RETURN_IF_ERROR(Print(text));
        return Flow::kNext;
      }
      case Node::Kind::kIf: {
        RAM_ASSIGN_OR_RETURN(const Value condition, Evaluate(*node.items[0], scope));
        if (condition.IsTrue()) return Execute(*node.items[1], scope);
        if (node.items.size() > 2) return Execute(*node.items[2], scope);
        return Flow::kNext;
      }
      case Node::Kind::kFor:
        return ExecuteFor(node, scope);
      case Node::Kind::kSet: {
        RAM_ASSIGN_OR_RETURN(Value value, Evaluate(*node.items[0], scope));
        RAM_RETURN_IF_ERROR(SetTargets(node.names, std::move(value), scope));
        return Flow::kNext;
      }
      case Node::Kind::kSetField:
        RAM_RETURN_IF_ERROR(SetField(node, scope));
        return Flow::kNext;
      case Node::Kind::kSetBlock: {
        RAM_ASSIGN_OR_RETURN(std::string text, Capture(*node.items[0], scope));
        scope.Set(node.names[0], Value(std::move(text)));
        return Flow::kNext;
      }
      case Node::Kind::kMacro:
        scope.Set(node.text, Value(Function{node.text, [this, &node](const Arguments& arguments) {
                                              return CallMacro(node, arguments);
                                            }}));
        return Flow::kNext;
      case Node::Kind::kBreak:
        return Flow::kBreak;
      case Node::Kind::kContinue:
        return Flow::kContinue;
      default:
        RAM_CHECK(false);
    }
    return Flow::kNext;
  }

  Status Print(std::string_view text) {
    if (out_.size() + text.size() > kMaxTextBytes) {
      return NotSupported("an output of more than 32 MiB");
    }
    out_ += text;
    return Charge(text.size() / 32);
  }

  // What a block prints.
  Result<std::string> Capture(const Node& block, Scope& scope) {
    std::string outer = std::exchange(out_, "");
    RAM_ASSIGN_OR_RETURN(const Flow flow, Execute(block, scope));
    (void)flow;  // A break in a block that is set ends no more than the block.
    return std::exchange(out_, std::move(outer));
  }

  Status SetTargets(const std::vector<std::string>& names, Value value, Scope& scope) {
    if (names.size() == 1) {
      scope.Set(names[0], std::move(value));
      return Done{};
    }
    RAM_ASSIGN_OR_RETURN(const std::vector<Value> items, ItemsOf(value));
    if (items.size() != names.size()) {
      return Mistake(fmt::format("{} values for {} names", items.size(), names.size()));
    }
    for (size_t i = 0; i < names.size(); ++i) scope.Set(names[i], items[i]);
    return Done{};
  }

  Status SetField(const Node& node, Scope& scope) {
    RAM_ASSIGN_OR_RETURN(Value value, Evaluate(*node.items[0], scope));
    const Value* found = scope.Find(node.names[0]);
    if (found == nullptr || !found->is_dict() || !found->dict().is_namespace) {
      return Mistake(fmt::format("'{}' is no namespace", node.names[0]));
    }
    if (value.is_dict() && value.dict().is_namespace) {
      return NotSupported("a namespace in a namespace");
    }
    found->space().Set(node.names[1], std::move(value));
    return Done{};
  }

  Result<Flow> ExecuteFor(const Node& node, Scope& scope) {
    RAM_ASSIGN_OR_RETURN(const Value iterable, Evaluate(*node.items[0], scope));
    RAM_ASSIGN_OR_RETURN(std::vector<Value> items, ItemsOf(iterable));
    RAM_RETURN_IF_ERROR(Charge(items.size() / 4));
    if (node.items[2] != nullptr) {
      std::vector<Value> kept;
      for (Value& item : items) {
        Scope inner{&scope, {}};
        RAM_RETURN_IF_ERROR(SetTargets(node.names, item, inner));
        RAM_ASSIGN_OR_RETURN(const Value holds, Evaluate(*node.items[2], inner));
        if (holds.IsTrue()) kept.push_back(std::move(item));
      }
      items = std::move(kept);
    }
    if (items.empty()) {
      return node.items[3] == nullptr ? Result<Flow>(Flow::kNext) : Execute(*node.items[3], scope);
    }
    for (size_t i = 0; i < items.size(); ++i) {
      Scope inner{&scope, {}};
      RAM_RETURN_IF_ERROR(Charge(kStepsOfTurn));
      RAM_RETURN_IF_ERROR(SetTargets(node.names, items[i], inner));
      RAM_ASSIGN_OR_RETURN(Value loop, MakeLoop(items, i));
      inner.Set("loop", std::move(loop));
      RAM_ASSIGN_OR_RETURN(const Flow flow, Execute(*node.items[1], inner));
      if (flow == Flow::kBreak) break;
    }
    return Flow::kNext;
  }

  // The variable `loop` in turn `i`.
  Result<Value> MakeLoop(const std::vector<Value>& items, size_t i) {
    const auto index = static_cast<int64_t>(i), size = static_cast<int64_t>(items.size());
    Value cycle(Function{"cycle", [i](const Arguments& arguments) -> Result<Value> {
                           if (arguments.positional.empty()) return Mistake("cycle of nothing");
                           return arguments.positional[i % arguments.positional.size()];
                         }});
    Dict loop;
    loop.entries = {
        {"index", index + 1},
        {"index0", index},
        {"first", i == 0},
        {"last", i + 1 == items.size()},
        {"length", size},
        {"revindex", size - index},
        {"revindex0", size - index - 1},
        {"depth", int64_t{1}},  // Of recursion.
        {"depth0", int64_t{0}},
        {"previtem", i == 0 ? Value(Undefined{"previtem"}) : items[i - 1]},
        {"nextitem", i + 1 == items.size() ? Value(Undefined{"nextitem"}) : items[i + 1]},
        {"cycle", std::move(cycle)}};
    return Value::OfNamespace(std::move(loop));
  }

  // Names in a macro are its arguments and those of the template.
  Result<Value> CallMacro(const Node& node, const Arguments& arguments) {
    Scope scope{&root_, {}};
    if (arguments.positional.size() > node.names.size()) {
      return Mistake(fmt::format("macro {} takes {} arguments", node.text, node.names.size()));
    }
    for (const auto& [name, value] : arguments.named) {
      if (std::find(node.names.begin(), node.names.end(), name) == node.names.end()) {
        return Mistake(fmt::format("macro {} has no parameter {}", node.text, name));
      }
    }
    const size_t num_defaults = node.items.size() - 1;
    const size_t first_default = node.names.size() - num_defaults;
    for (size_t i = 0; i < node.names.size(); ++i) {
      Value value(Undefined{node.names[i]});
      if (const Value* given = arguments.Get(i, node.names[i]); given != nullptr) {
        value = *given;
      } else if (i >= first_default) {
        RAM_ASSIGN_OR_RETURN(value, Evaluate(*node.items[1 + i - first_default], scope));
      }
      scope.Set(node.names[i], std::move(value));
    }
    RAM_ASSIGN_OR_RETURN(std::string text, Capture(*node.items[0], scope));
    return Value(std::move(text));
  }

  // ---- Expressions ----

  Result<Value> Evaluate(const Node& node, Scope& scope) {
    ++depth_;
    Result<Value> value = depth_ > kMaxDepth ? Result<Value>(NotSupported("nested too deep"))
                                             : EvaluateNode(node, scope);
    --depth_;
    if (value.ok()) {
      const bool is_new = node.kind != Node::Kind::kName && node.kind != Node::Kind::kConstant &&
                          node.kind != Node::Kind::kField;
      if (Status status = Charge(1 + (is_new ? CostOf(*value) : 0)); !status) {
        value = std::move(status).error();
      }
    }
    return Located(node, std::move(value));
  }

  Result<std::vector<Value>> EvaluateAll(const Node& node, Scope& scope, size_t first = 0) {
    std::vector<Value> values;
    for (size_t i = first; i < node.items.size(); ++i) {
      RAM_ASSIGN_OR_RETURN(Value value, Evaluate(*node.items[i], scope));
      values.push_back(std::move(value));
    }
    return values;
  }

  // Those behind items[0].
  Result<Arguments> EvaluateArguments(const Node& node, Scope& scope) {
    Arguments arguments;
    RAM_ASSIGN_OR_RETURN(arguments.positional, EvaluateAll(node, scope, 1));
    const size_t num_positional = arguments.positional.size() - node.names.size();
    for (size_t i = 0; i < node.names.size(); ++i) {
      arguments.named.push_back(
          {node.names[i], std::move(arguments.positional[num_positional + i])});
    }
    arguments.positional.resize(num_positional);
    return arguments;
  }

  Result<Value> EvaluateNode(const Node& node, Scope& scope) {
    switch (node.kind) {
      case Node::Kind::kConstant:
        return node.constant;
      case Node::Kind::kName: {
        const Value* found = scope.Find(node.text);
        return found == nullptr ? Value(Undefined{node.text}) : *found;
      }
      case Node::Kind::kList:
      case Node::Kind::kTuple: {
        RAM_ASSIGN_OR_RETURN(std::vector<Value> items, EvaluateAll(node, scope));
        return Value::OfList(std::move(items), node.kind == Node::Kind::kTuple);
      }
      case Node::Kind::kDict:
        return EvaluateDict(node, scope);
      case Node::Kind::kField: {
        RAM_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.items[0], scope));
        return GetField(object, node.text);
      }
      case Node::Kind::kItem: {
        RAM_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.items[0], scope));
        RAM_ASSIGN_OR_RETURN(const Value key, Evaluate(*node.items[1], scope));
        if (object.is_text()) RAM_RETURN_IF_ERROR(Charge(CostOf(object)));
        return GetItem(object, key);
      }
      case Node::Kind::kSlice:
        return EvaluateSlice(node, scope);
      case Node::Kind::kCall: {
        RAM_ASSIGN_OR_RETURN(const Value callee, Evaluate(*node.items[0], scope));
        RAM_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node, scope));
        if (callee.is_undefined()) {
          return Mistake(fmt::format("'{}' is undefined", callee.undefined().name));
        }
        if (!callee.is_function()) {
          return Mistake(fmt::format("a call of a value of type {}", callee.TypeName()));
        }
        return callee.function().call(arguments);
      }
      case Node::Kind::kFilter: {
        RAM_ASSIGN_OR_RETURN(const Value input, Evaluate(*node.items[0], scope));
        RAM_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node, scope));
        RAM_RETURN_IF_ERROR(Charge(CostOf(input)));
        return ApplyFilter(node.text, input, arguments);
      }
      case Node::Kind::kTest: {
        RAM_ASSIGN_OR_RETURN(const Value input, Evaluate(*node.items[0], scope));
        RAM_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node, scope));
        RAM_ASSIGN_OR_RETURN(const bool holds, ApplyTest(node.text, input, arguments));
        return Value(holds);
      }
      case Node::Kind::kNot: {
        RAM_ASSIGN_OR_RETURN(const Value operand, Evaluate(*node.items[0], scope));
        return Value(!operand.IsTrue());
      }
      case Node::Kind::kNegative:
      case Node::Kind::kPlus: {
        RAM_ASSIGN_OR_RETURN(const Value operand, Evaluate(*node.items[0], scope));
        if (!operand.is_number()) {
          return Mistake(fmt::format("a sign before a value of type {}", operand.TypeName()));
        }
        return ApplyOperator(node.kind == Node::Kind::kPlus ? "+" : "-", Value(int64_t{0}),
                             operand);
      }
      case Node::Kind::kOr:
      case Node::Kind::kAnd:
      case Node::Kind::kBinary:
        return EvaluateChain(node, scope);
      case Node::Kind::kCompare:
        return EvaluateCompare(node, scope);
      case Node::Kind::kConditional: {
        RAM_ASSIGN_OR_RETURN(const Value condition, Evaluate(*node.items[0], scope));
        if (condition.IsTrue()) return Evaluate(*node.items[1], scope);
        if (node.items.size() > 2) return Evaluate(*node.items[2], scope);
        return Value(Undefined{"the other value of an if"});
      }
      default:
        RAM_CHECK(false);
    }
    return Value();
  }

  Result<Value> EvaluateDict(const Node& node, Scope& scope) {
    std::vector<std::pair<std::string, Value>> entries;
    for (size_t i = 0; i < node.items.size(); i += 2) {
      RAM_ASSIGN_OR_RETURN(const Value key, Evaluate(*node.items[i], scope));
      RAM_ASSIGN_OR_RETURN(Value value, Evaluate(*node.items[i + 1], scope));
      if (!key.is_text()) return NotSupported("a key that is no text");
      entries.push_back({key.text(), std::move(value)});
    }
    return Value::OfDict(std::move(entries));
  }

  Result<Value> EvaluateSlice(const Node& node, Scope& scope) {
    RAM_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.items[0], scope));
    std::array<Value, 3> bounds;
    for (size_t i = 0; i < 3; ++i) {
      if (node.items[i + 1] == nullptr) continue;
      RAM_ASSIGN_OR_RETURN(bounds[i], Evaluate(*node.items[i + 1], scope));
    }
    RAM_RETURN_IF_ERROR(Charge(CostOf(object)));
    return GetSlice(object, bounds[0], bounds[1], bounds[2]);
  }

  // From left to right; `or` and `and` stop at the first operand that decides.
  Result<Value> EvaluateChain(const Node& node, Scope& scope) {
    RAM_ASSIGN_OR_RETURN(Value value, Evaluate(*node.items[0], scope));
    for (size_t i = 1; i < node.items.size(); ++i) {
      if (node.kind != Node::Kind::kBinary && value.IsTrue() == (node.kind == Node::Kind::kOr)) {
        return value;
      }
      RAM_ASSIGN_OR_RETURN(Value right, Evaluate(*node.items[i], scope));
      if (node.kind != Node::Kind::kBinary) {
        value = std::move(right);
        continue;
      }
      RAM_ASSIGN_OR_RETURN(value, ApplyOperator(node.text, value, right));
      RAM_RETURN_IF_ERROR(Charge(CostOf(value)));
    }
    return value;
  }

  // a < b < c means a < b and b < c.
  Result<Value> EvaluateCompare(const Node& node, Scope& scope) {
    RAM_ASSIGN_OR_RETURN(Value left, Evaluate(*node.items[0], scope));
    for (size_t i = 0; i < node.names.size(); ++i) {
      RAM_ASSIGN_OR_RETURN(Value right, Evaluate(*node.items[i + 1], scope));
      RAM_RETURN_IF_ERROR(Charge(CostOf(right)));
      const std::string& name = node.names[i];
      bool holds = false;
      if (name == "==" || name == "!=") {
        holds = AreEqual(left, right) == (name == "==");
      } else if (name == "in" || name == "not in") {
        RAM_ASSIGN_OR_RETURN(const bool is_in, IsIn(left, right));
        holds = is_in == (name == "in");
      } else {
        const Arguments arguments{{right}, {}};
        RAM_ASSIGN_OR_RETURN(holds, ApplyTest(name, left, arguments));
      }
      if (!holds) return Value(false);
      left = std::move(right);
    }
    return Value(true);
  }

  std::string_view where_;
  Scope globals_, root_;
  std::string out_;
  uint64_t steps_ = 0;
  int depth_ = 0;
  bool is_located_ = false;
};

}  // namespace

Result<std::string> Render(const Node& block, const Variables& variables, std::string_view where) {
  return Evaluator(variables, where).Run(block);
}

}  // namespace ram::jinja
