#include "ram/eval/score_sources.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "ram/base/file.h"
#include "ram/eval/align.h"
#include "ram/eval/csv.h"
#include "ram/eval/llama_log.h"
#include "ram/stats/perplexity.h"

namespace ram {
namespace {

// ---- CSV ----

std::string CsvMessage(std::string_view text) {
  const auto table = ParseCsv(text, "t.csv");
  return table.ok() ? "accepted" : table.error().message;
}

TEST(CsvTest, QuotesSeparatorsAndLineEnds) {
  const auto table = ParseCsv(
      "\xEF\xBB\xBF"
      "a, b ,c\r\n1,\"x, \"\"y\"\"\nz\",3\r\n\r\n4,5,6",
      "t.csv");
  ASSERT_TRUE(table.ok()) << table.error().message;
  EXPECT_EQ(table->names, (std::vector<std::string>{"a", "b", "c"}));
  ASSERT_EQ(table->rows.size(), 2u);
  EXPECT_EQ(table->rows[0][1], "x, \"y\"\nz");
  EXPECT_EQ(table->lines, (std::vector<size_t>{2, 5}));
  EXPECT_EQ(*NumberColumn(*table, 2, "t.csv"), (std::vector<double>{3, 6}));
  EXPECT_EQ(NumberColumn(*table, 1, "t.csv").error().message,
            "t.csv: line 2, column b: \"x, \"y\"\nz\" is not a finite number");
  EXPECT_TRUE(HasNumbers(*table, 1));
  EXPECT_FALSE(HasNumbers(*ParseCsv("a,b\nx,1\n,2\n", "t.csv"), 0));
  const auto tabs = ParseCsv("a\tb\n1\t+2e-3\n", "t.tsv");
  EXPECT_EQ(*NumberColumn(*tabs, 1, "t.tsv"), std::vector<double>{0.002});
}

TEST(CsvTest, MistakesAreNamed) {
  EXPECT_EQ(CsvMessage(""), "t.csv: empty, expected a row of names and rows of numbers");
  EXPECT_EQ(CsvMessage("a,b\n"), "t.csv: no rows below the names of the columns");
  EXPECT_EQ(CsvMessage("1,2\n3,4\n"),
            "t.csv: the first row holds numbers, expected the names of the columns");
  EXPECT_EQ(CsvMessage("a,b\n1,2\n1,2,3\n"), "t.csv: line 3 has 3 cells, the first row has 2");
  EXPECT_EQ(CsvMessage("a,\"b\n1,2\n"), "t.csv: line 1: a quote is opened and never closed");
  EXPECT_EQ(CsvMessage("a,a\n1,2\n"), "t.csv: two columns are called \"a\"");
  EXPECT_EQ(CsvMessage("a,\n1,2\n"), "t.csv: column 2 has no name in the first row");
}

// ---- Tables of scores ----

std::string TableMessage(std::string_view text, TableValues values = TableValues::kNll) {
  const auto scores = ParseScoreTable(text, "t.csv", values);
  return scores.ok() ? "accepted" : scores.error().message;
}

TEST(ScoreTableTest, ColumnsAreModels) {
  const auto scores = ParseScoreTable("window,tokens,A,text,B\nx,10,2,hello,7.5\ny,20,4,,8\n",
                                      "t.csv", TableValues::kPerplexity);
  ASSERT_TRUE(scores.ok()) << scores.error().message;
  ASSERT_EQ(scores->size(), 2u);
  EXPECT_EQ((*scores)[1].model.name, "B");
  EXPECT_DOUBLE_EQ((*scores)[0].windows[1].nll, std::log(4));
  EXPECT_EQ((*scores)[0].windows[1].num_tokens, 20u);
  EXPECT_EQ((*scores)[1].windows[0].label, "x");
  EXPECT_EQ((*scores)[1].windows[0].text, "hello");
}

TEST(ScoreTableTest, MistakesAreNamed) {
  EXPECT_EQ(TableMessage("A\n1\nnan\n"), "t.csv: line 3, column A: \"nan\" is not a finite number");
  EXPECT_EQ(TableMessage("A,B\n,1\n"), "t.csv: line 2, column A: \"\" is not a finite number");
  EXPECT_EQ(TableMessage("A\n-1\n"),
            "t.csv: line 2, column A: -1 is no negative log-likelihood, which is never below 0");
  EXPECT_EQ(TableMessage("A\n0.5\n", TableValues::kPerplexity),
            "t.csv: line 2, column A: 0.5 is no perplexity, which is 1 at least");
  EXPECT_EQ(TableMessage("A\n1e7\n"),
            "t.csv: line 2, column A: 10000000 nats per token is more than any model can lose");
  EXPECT_EQ(TableMessage("A\n1e200\n"), "t.csv: line 2, column A: 1e+200 is larger than 1e+100");
  EXPECT_EQ(TableMessage("tokens,A\n0.5,1\n"),
            "t.csv: line 2, column tokens: 0.5 is no number of tokens");
  EXPECT_EQ(TableMessage("tokens,text\n5,1\n"), "t.csv: no column holds scores");
}

// ---- Logs ----

// What llama-perplexity prints for these chunk scores.
std::string LogOf(const std::vector<double>& nll, std::string_view final_line = "") {
  std::string log = fmt::format(
      "llm_load_print_meta: model ftype      = Q4_K - Medium\n"
      "llm_load_print_meta: model size       = 7.500 GiB (4.500 BPW) \n"
      "llm_load_print_meta: general.name     = Tiny [1] Model\n"
      "print_info: n_vocab          = 1000\n"
      "perplexity: calculating perplexity over {} chunks, n_ctx=512, batch_size=512, n_seq=1\n",
      nll.size());
  double sum = 0;
  for (size_t i = 0; i < nll.size(); ++i) {
    sum += nll[i];
    log += fmt::format("[{}]{:.4f},", i + 1, std::exp(sum / static_cast<double>(i + 1)));
    if (i % 3 == 2) log += '\n';
  }
  log += "\nllama_print_timings:        load time = 1.0 ms\n\n";
  if (final_line.empty()) {
    return log + fmt::format("Final estimate: PPL = {:.4f} +/- 0.06198\n",
                             std::exp(sum / static_cast<double>(nll.size())));
  }
  return log + std::string(final_line);
}

const std::vector<double> kChunks = {2.5, 1.75, 3.25, 0.5, 9.0, 2.0, 2.25};

TEST(LlamaLogTest, UndoesTheRunningMean) {
  const auto scores = ParseLlamaLog(LogOf(kChunks), "run.log");
  ASSERT_TRUE(scores.ok()) << scores.error().message;
  ASSERT_EQ(scores->windows.size(), kChunks.size());
  for (size_t i = 0; i < kChunks.size(); ++i) {
    EXPECT_NEAR(scores->windows[i].nll, kChunks[i], scores->resolution);
    EXPECT_EQ(scores->windows[i].num_tokens, 255u);
  }
  EXPECT_GT(scores->resolution, 1e-5);
  EXPECT_LT(scores->resolution, 1e-3);
  EXPECT_EQ(scores->model.name, "Tiny [1] Model Q4_K");
  EXPECT_EQ(scores->model.bytes, uint64_t{15} << 29);
  EXPECT_EQ(scores->model.bits_per_weight, 4.5);
  EXPECT_EQ(scores->assumed_windows, "7 chunks of 512 tokens, vocabulary of 1000");
}

TEST(LlamaLogTest, MistakesAreNamed) {
  const auto message = [](const std::string& text) {
    const auto scores = ParseLlamaLog(text, "run.log");
    return scores.ok() ? std::string("accepted") : scores.error().message;
  };
  const std::string log = LogOf(kChunks);
  EXPECT_EQ(message("hello\nworld [1] and so on\n"),
            "run.log: not a log of llama-perplexity: it has no running perplexities "
            "\"[1]8.1,[2]...\"");
  EXPECT_EQ(message(log.substr(0, log.find("[5]"))), "run.log: the log ends after chunk 4 of 7");
  EXPECT_EQ(message(log.substr(0, log.find("[7]") + 6)),
            "run.log: the log ends after chunk 6 of 7");
  std::string with_nan = log;
  const size_t third = log.find("[3]") + 3;
  with_nan.replace(third, log.find(',', third) - third, "nan");
  EXPECT_EQ(message(with_nan), "run.log: chunk 3 has the perplexity \"nan\", expected a number");
  std::string falling = log;
  falling.replace(log.find("[4]") + 3, 6, "1.0000");
  EXPECT_EQ(message(falling),
            "run.log: the perplexity after chunk 4, 1, is lower than any score of the chunk can "
            "make it");
  EXPECT_EQ(message(LogOf(kChunks, "Final estimate: PPL = 99.0000 +/- 0.1\n")),
            "run.log: the final estimate is not the perplexity 20.8158 after the last chunk: Final "
            "estimate: PPL = 99.0000 +/- 0.1");
  EXPECT_EQ(message("chunk             PPL               ln(PPL(Q)/PPL(base))\n   1   7.2 ± 1.3\n"),
            "run.log: a log of --kl-divergence; only logs of plain perplexity runs hold one score "
            "for each chunk");
}

TEST(LlamaLogTest, StandardOutputAlone) {
  std::string log = LogOf(kChunks);
  log = "load: [1] of [2] devices\n" + log.substr(log.rfind("[1]"));
  const auto scores = ParseLlamaLog(log, "run.log");
  ASSERT_TRUE(scores.ok()) << scores.error().message;
  EXPECT_EQ(scores->windows.size(), kChunks.size());
  EXPECT_FALSE(ParseLlamaLog(log.substr(0, log.find("Final")), "run.log").ok());
}

TEST(LlamaLogTest, EveryTruncationIsAnErrorOrWhole) {
  const std::string log = LogOf(kChunks);
  // Everything announced is there from the last comma on, but for a final estimate that is cut.
  const size_t whole = log.rfind(',') + 1;
  const size_t estimate = log.find("Final estimate: PPL") + std::strlen("Final estimate: PPL");
  const size_t estimated = log.find(" +/-");
  for (size_t size = 0; size <= log.size(); ++size) {
    const bool is_whole = size >= whole && (size < estimate || size >= estimated);
    EXPECT_EQ(ParseLlamaLog(log.substr(0, size), "run.log").ok(), is_whole) << size;
  }
}

TEST(LlamaLogTest, Glm47Flash) {
  const auto sources =
      ReadScoreSource(RAM_TEST_DATA_DIR "/ppl-logs/GLM-4.7-Flash.txt", TableValues::kNll);
  ASSERT_TRUE(sources.ok()) << sources.error().message;
  const Scores& scores = sources->front();
  std::vector<double> nll;
  std::vector<double> tokens;
  for (const ScoredWindow& window : scores.windows) {
    nll.push_back(window.nll);
    tokens.push_back(static_cast<double>(window.num_tokens));
  }
  const auto summary = SummarizePerplexity(nll, tokens);
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->num_windows, 813u);
  EXPECT_NEAR(summary->corpus, 8.6012, 1e-6);
  EXPECT_NEAR(summary->median, 5.81, 0.005);
  EXPECT_EQ(summary->num_outliers, 46u);
  EXPECT_NEAR(std::exp(TrimmedMean(Sorted(nll), 0.05)), 6.4363, 5e-5);
  EXPECT_NEAR(summary->trimmed_5, 11.2415, 5e-5);  // More than 5 % are catastrophic.
  EXPECT_NEAR(summary->trimmed_10, 7.4138, 5e-5);
  EXPECT_NEAR(summary->p95, 523.30, 0.01);
  EXPECT_NEAR(summary->p99, 37'333.81, 0.01);
  EXPECT_NEAR(summary->max, 821'096, 0.5);
  EXPECT_LT(summary->tail.alpha, 1);
  EXPECT_NEAR(scores.resolution, 0.0095, 0.001);
  EXPECT_EQ(scores.model.name, "GLM 4.7 Flash BF16");
  EXPECT_NEAR(static_cast<double>(scores.model.bytes), 55.786 * 0x1p30, 1e6);
}

// ---- Pairing ----

Scores WithWindows(std::string name, const std::vector<int32_t>& firsts) {
  Scores scores;
  scores.model.name = std::move(name);
  scores.numerics = {"ram-cpu", "f32", "avx512"};
  scores.protocol = "ram-wikitext2";
  for (const int32_t first : firsts) {
    const std::vector<float> nll = {0.5F * static_cast<float>(first), 1};
    AddWindow(&scores, static_cast<uint64_t>(first), nll,
              HashTokens(std::vector<int32_t>{first, first + 1}));
  }
  return scores;
}

TEST(AlignTest, MatchesByTokensInTheOrderOfTheText) {
  const auto aligned =
      AlignScores({WithWindows("a", {30, 10, 20}), WithWindows("b", {20, 30, 10})}, {"a", "b"});
  ASSERT_TRUE(aligned.ok()) << aligned.error().message;
  EXPECT_EQ(aligned->models[0].nll, (std::vector<double>{3, 5.5, 8}));
  EXPECT_EQ(aligned->models[1].nll, aligned->models[0].nll);
  EXPECT_EQ(aligned->labels, (std::vector<std::string>{"1", "2", "0"}));
  EXPECT_TRUE(aligned->tokens_known && aligned->same_numerics);
}

TEST(AlignTest, RefusesWhatIsNotTheSame) {
  const auto message = [](const Scores& a, const Scores& b, const AlignOptions& options = {}) {
    const auto aligned = AlignScores({a, b}, {"a.scores", "b.scores"}, options);
    return aligned.ok() ? std::string("accepted") : aligned.error().message;
  };
  const Scores a = WithWindows("a", {1, 2, 3});
  EXPECT_EQ(message(a, WithWindows("b", {7, 8})),
            "a.scores and b.scores cannot be paired: they scored other tokens: none of 3 and 2 "
            "windows is the same");
  EXPECT_EQ(message(a, WithWindows("b", {3, 4})),
            "a.scores and b.scores cannot be paired: they share only 1 of 3 and 2 windows "
            "(--common-windows compares those)");
  EXPECT_EQ(message(a, WithWindows("b", {3, 4}), {.common_windows = true}), "accepted");
  Scores bf16 = a;
  bf16.numerics.precision = "bf16";
  EXPECT_EQ(message(a, bf16),
            "a.scores and b.scores cannot be paired: they ran under different numerics, ram-cpu in "
            "f32 against ram-cpu in bf16 (--allow-different-numerics pairs them all the same)");
  EXPECT_EQ(message(a, bf16, {.allow_different_numerics = true}), "accepted");
  Scores other_isa = a;
  other_isa.numerics.isa = "neon";
  EXPECT_EQ(message(a, other_isa), "accepted");
  Scores unknown = a;
  unknown.token_hashes.clear();
  EXPECT_EQ(message(a, unknown),
            "a.scores and b.scores cannot be paired: only one of them says which tokens it scored");
  unknown.assumed_windows = "3 rows";
  Scores fewer = unknown;
  fewer.windows.pop_back();
  fewer.assumed_windows = "2 rows";
  EXPECT_EQ(message(unknown, fewer),
            "a.scores and b.scores cannot be paired: they scored other windows (3 rows against 2 "
            "rows)");
  Scores half = a;
  half.windows[1].num_tokens = 1;
  EXPECT_EQ(
      message(a, half),
      "a.scores and b.scores cannot be paired: of the same window they scored 2 and 1 tokens");
}

TEST(AlignTest, EqualWindowsAreMatchedOneByOne) {
  const auto aligned =
      AlignScores({WithWindows("a", {5, 5, 1}), WithWindows("b", {1, 5, 5})}, {"a", "b"});
  ASSERT_TRUE(aligned.ok());
  EXPECT_EQ(aligned->tokens.size(), 3u);
  const auto once = AlignScores({WithWindows("a", {5, 5, 1}), WithWindows("b", {1, 5})}, {"a", "b"},
                                {.common_windows = true});
  ASSERT_TRUE(once.ok());
  EXPECT_EQ(once->tokens.size(), 2u);
}

}  // namespace
}  // namespace ram
