/* What the command refuses: one line that names what was given and what to do, the documented exit code, and no result
 * left behind. Also the ways to train that no other test of the command covers. */
#include "command.h"

namespace {

/* Words separated by blanks. */
Arguments words(const std::string &text) {
  Arguments result;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

std::string table(int rows) {
  std::ostringstream text;
  text << "width,colour,none,answer\n";
  for (int i = 0; i < rows; i++)
    text << 20 * (i % 2) + i * 0.125 << ','
         << (i % 3 == 0   ? "red"
             : i % 3 == 1 ? "green"
                          : "blue")
         << ",1," << (i % 2 ? "yes" : "no") << '\n';
  return text.str();
}

/* A folder with data and models that every case reads and none may change. */
class Refusals : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new Folder;
    folder_->write("m.csv", table(60));
    folder_->write("unseen.csv", "width,colour,none,answer\n1,purple,1,no\n");
    std::string numbers = "a,b,y1,y2\n";
    for (int i = 0; i < 40; i++)
      numbers += std::to_string(i) + "," + std::to_string(i * i % 11) + "," + std::to_string(i) + ",-1\n";
    folder_->write("r.csv", numbers);
    folder_->write("words.json", "{\"epochs\": \"many\"}");
    folder_->write("list.json", "[1, 2]");
    folder_->write("flag.json", "{\"epochs\": {\"a\": 1}}");
    folder_->write("unknown.json", "{\"epoch\": 1}");
    ASSERT_EQ(mkfifo((*folder_ / "pipe.csv").c_str(), 0600), 0);
    folder_->write("itself.json", "{\"config\": \"x\"}");
    folder_->write("large.json", std::string((1 << 20) + 1, ' '));
    Arguments quiet = words("--hidden 4 --epochs 1 --quiet --out");
    ASSERT_EQ(folder_->run(words("train m.csv --target answer") + quiet + Arguments{"m"}).code, 0);
    ASSERT_EQ(folder_->run(words("train r.csv --target y1,y2") + quiet + Arguments{"r"}).code, 0);
    ASSERT_EQ(folder_->run(words("convert m.csv m.safetensors --target answer")).code, 0);
    names_ = folder_->list();
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  struct Case {
    const char *arguments;
    int code;
    const char *says;
  };
  template <size_t n>
  void expect_refused(const Case (&cases)[n], const std::string &before = "") const {
    for (const Case &c : cases) {
      SCOPED_TRACE(before + c.arguments);
      const Result result = folder_->run(words(before + c.arguments));
      EXPECT_EQ(result.code, c.code);
      expect_contains(result.err, c.says);
      expect_one_line(result.err);
      EXPECT_EQ(result.out, "");
      EXPECT_EQ(folder_->list(), names_);
    }
  }

  static Folder *folder_;
  static std::vector<std::string> names_;
};
Folder *Refusals::folder_;
std::vector<std::string> Refusals::names_;

constexpr char kSchedule[] =
    "must be constant, step:EVERY[:GAMMA], exponential:GAMMA, cosine[:MIN], polynomial[:POWER[:MIN]] or plateau";
constexpr char kEvery[] = "must be a whole number of steps or epochs or any of s, m or h";
constexpr char kRollback[] = "must be stop or rollback[:TIMES[:DIVISOR]]";
constexpr char kHidden[] = "must be none or up to 9999 whole numbers from 1 to 10000000";
constexpr char kWeights[] = "must be balanced, 2 numbers above 0, or CLASS=NUMBER with classes of the data";

TEST_F(Refusals, OptionsOfTrain) {
  const Case cases[] = {
      {"--schedule step", 2, kSchedule},
      {"--schedule step:0", 2, kSchedule},
      {"--schedule step:2:0", 2, kSchedule},
      {"--schedule step:2:", 2, kSchedule},
      {"--schedule step:2:0.5:1", 2, kSchedule},
      {"--schedule exponential", 2, kSchedule},
      {"--schedule exponential:2", 2, kSchedule},
      {"--schedule exponential:0.9:1", 2, kSchedule},
      {"--schedule cosine:-1", 2, kSchedule},
      {"--schedule cosine:1:2", 2, kSchedule},
      {"--schedule plateau:0", 2, kSchedule},
      {"--schedule plateau:3:2", 2, kSchedule},
      {"--schedule plateau:3:0.5:1", 2, kSchedule},
      {"--schedule constant:1", 2, kSchedule},
      {"--schedule nosuch", 2, kSchedule},
      {"--schedule averyverylongnameofaschedule", 2, kSchedule},
      {"--schedule step:11111111111111111111111111111111111111111111111111111111111111111111111111111111", 2,
       kSchedule},
      {"--checkpoint k --checkpoint-every 0", 2, kEvery},
      {"--checkpoint k --checkpoint-every 3", 2, kEvery},
      {"--checkpoint k --checkpoint-every 5x", 2, kEvery},
      {"--checkpoint k --checkpoint-every s", 2, kEvery},
      {"--checkpoint k --checkpoint-every 1.2.3s", 2, kEvery},
      {"--checkpoint k --checkpoint-every 2e15s", 2, kEvery},
      {"--checkpoint k --checkpoint-every 1111111111111111111111111111111111111111111111111111s", 2, kEvery},
      {"--checkpoint k --on-divergence nosuch", 2, kRollback},
      {"--checkpoint k --on-divergence rollback:", 2, kRollback},
      {"--checkpoint k --on-divergence rollback:0", 2, kRollback},
      {"--checkpoint k --on-divergence rollback:2:1", 2, kRollback},
      {"--checkpoint k --on-divergence rollback:2:x", 2, kRollback},
      {"--on-divergence rollback", 2, "needs --resume DIR or --checkpoint DIR"},
      {"--resume k --resume-with ,lr", 2, "must be option names separated by commas"},
      {"--resume k --resume-with nosuch", 2, "resume_with 'nosuch': unknown name: must be one of"},
      {"--resume-with lr", 2, "needs --resume"},
      {"--checkpoint m.csv", 1, "m.csv: cannot write checkpoints here: Not a directory"},
      {"--hidden 0", 2, kHidden},
      {"--hidden 4,,4", 2, kHidden},
      {"--hidden x", 2, kHidden},
      {"--hidden 99999999999999999999999999", 2, kHidden},
      {"--validation 2", 2, "must be a file, a number of at least 0 and below 1, or below 100%"},
      {"--validation 120%", 2, "must be a file, a number of at least 0 and below 1, or below 100%"},
      {"--validation nosuch.csv", 3, "nosuch.csv: cannot read: No such file or directory"},
      {"--test nosuch.csv", 3, "nosuch.csv: cannot read: No such file or directory"},
      {"--class-weight 1", 2, kWeights},
      {"--class-weight 1,-2", 2, kWeights},
      {"--class-weight 1,2,3", 2, kWeights},
      {"--class-weight maybe=1,no=2", 2, kWeights},
      {"--lr 1e99", 2, "learning_rate 1e+99: must be a number above 0"},
      {"--lr x", 2, "--learning-rate 'x': must be a number above 0"},
      {"--batch-size 0", 2, "must be a whole number of at least 1, or all"},
      {"--micro-batches 33", 2, "micro_batches 33: must be at most batch_size 32"},
      {"--micro-batches 1000 --batch-size all", 2, "micro_batches 1000: must be at most the "},
      {"--nesterov", 2, "nesterov: needs optimizer sgd and momentum above 0, not adam and 0"},
      {"--nesterov --optimizer lars --momentum 0.9", 2,
       "nesterov: needs optimizer sgd and momentum above 0, not lars and 0.9"},
      {"--trust-coefficient 0", 2, "--trust-coefficient '0': must be a number above 0"},
      {"--trust-coefficient 1e99", 2, "trust_coefficient 1e+99: must be a number above 0"},
      {"--output-activation tanh", 2, "activation must be identity, not tanh"},
      {"--task regression", 3, "m.csv:2: column 'answer': 'no' is not a number, which regression needs (correct it)"},
      {"--precision bf16 --device cpu", 4, "the cpu computes in fp32 (use precision fp32)"},
      {"--fusion on --device cpu", 4, "fusion on: the device cpu computes layer by layer; use auto or off"},
      {"--device nosuch", 2,
       "unknown device 'nosuch' (known: auto, cpu, reference, cuda, cuda:<i>, cuda:GPU-<uuid>, "
       "cuda:MIG-<uuid>)"},
      {"--device cuda:1000", 2, "unknown device 'cuda:1000'"},
      {"--device cuda:01", 2, "unknown device 'cuda:01'"},
      {"--device cuda:x", 2, "unknown device 'cuda:x'"},
      {"--weights nosuch", 3, "nosuch: cannot read: No such file or directory"},
      {"--weights r", 3, "r: 2 linear layers, but the network has 3"},
      {"--weights r --hidden 4", 3, "r: "},
      {"--ignore nosuch", 3, "no column 'nosuch' (known: 'width', 'colour', 'none', 'answer')"},
      {"--ignore answer", 3, "column 'answer' cannot be both the target and ignored"},
      {"--ignore width,colour,none", 3, "every column but the target is ignored: nothing to learn from"},
      {"--categorical nosuch", 3, "no column 'nosuch'"},
      {"--categorical answer", 3, "column 'answer' is not a feature and cannot be categorical"},
      {"--weight-column nosuch", 3, "no column 'nosuch'"},
      {"--weight-column colour", 3, "'red' is not a valid weight: must be finite and >= 0"},
      {"--weight-column answer", 3, "a column cannot be both the target and the weight"},
      {"--target-file r.csv", 2, "both a target and a target file are given: choose one"},
      {"--strict", 3, "m.csv:2: column 'colour': 'red' is not a number"},
      {"--header no", 3, "no column 'answer': the file has no header, use an index from 0 to 3"},
      {"--header maybe", 2, "must be yes, no or auto"},
      {"--delimiter xx", 2, "must be auto, one of , ; | or tab"},
      {"--decimal x", 2, "must be auto, . or ,"},
      {"--decimal , --delimiter ,", 2, "--decimal ',': is also the --delimiter"},
      {"--decimal ,", 3, "no column 'answer' (known: 'width,colour,none,answer')"},
      {"--delimiter ;", 3, "no column 'answer' (known: 'width,colour,none,answer')"},
      {"--format npy", 3, "m.csv: byte 0: not a .npy file (choose another format)"},
      {"--format nosuch", 2, "unknown format 'nosuch' (known: csv, npy"},
      {"--config nosuch", 3, "nosuch: cannot read: No such file or directory"},
      {"--config m.csv", 2, "m.csv:1: not valid JSON"},
      {"--config list.json", 2, "list.json: must hold one JSON object of option names and values"},
      {"--config words.json", 2, "--epochs 'many': must be a whole number"},
      {"--config flag.json", 2, "key 'epochs': must be a string, a number or an array of them"},
      {"--config unknown.json", 2, "key 'epoch'"},
      {"--config itself.json", 2, "key 'config'"},
      {"--config large.json", 3, "large.json: cannot read: File too large"},
      {"--out m.csv", 2, "--out 'm.csv': is also an input file"},
      {"--out nosuch/z", 1, "nosuch/z: cannot write: No such file or directory"},
      {"--out .", 1, ".: cannot write: Is a directory"},
      {"--log nosuch/x", 1, "nosuch/x: cannot write: No such file or directory"},
      {"--log m.csv", 2, "--log 'm.csv': is also an input file"},
      {"--report nosuch/x", 1, "nosuch/x: cannot write: No such file or directory"},
      {"--report m.csv", 2, "--report 'm.csv': is also an input file"},
      {"--report z", 2, "--report 'z': is also the model file (--out)"},
      {"--tensorboard /dev/null", 1, "/dev/null: cannot write: Not a directory"},
      {"--missing", 2, "option '--missing' needs a value, TEXT,... (see descent train --help)"},
      {"--nosuch", 2, "unknown option '--nosuch' (see descent train --help)"},
      {"--h 3", 2, "option '--h' is ambiguous: --header or --hidden or --help (see descent train --help)"},
      {"--epcohs=3", 2, "unknown option '--epcohs=3': did you mean --epochs? (see descent train --help)"},
      {"--learnign-rate 3", 2,
       "unknown option '--learnign-rate': did you mean --learning-rate? (see descent train --help)"},
      {"--betta 0.5", 2, "unknown option '--betta': did you mean --beta1 or --beta2? (see descent train --help)"},
      {"--dropouts", 2, "unknown option '--dropouts': did you mean --dropout? (see descent train --help)"},
      {"--=3", 2, "option '--=3' is ambiguous"},
      {"--test=", 2, "--test '': must name a file"},
      {"--weights=", 2, "--weights '': must name a file"},
      {"--config=", 2, "--config '': must name a file"},
      {"--resume=", 2, "--resume '': must name a folder"},
      {"-x", 2, "unknown option '-x' (see descent train --help)"},
      {"extra", 2, "one argument too many: 'extra' (see descent train --help)"},
  };
  expect_refused(cases, "train m.csv --target answer --epochs 1 --quiet --out z ");
}

TEST_F(Refusals, NumbersOutOfRange) {
  const char *const below_one[] = {"dropout", "beta1", "beta2", "rho", "label-smoothing"};
  for (const char *name : below_one)
    for (const char *value : {"1", "-0.5", "nan", "x"}) {
      const std::string arguments = "train m.csv --" + std::string(name) + " " + value;
      const Result result = folder_->run(words(arguments));
      EXPECT_EQ(result.code, 2) << arguments;
      expect_contains(result.err, "must be a number of at least 0 and below 1");
    }
  for (const char *name : {"weight-decay", "l2", "clip-norm", "min-delta"})
    for (const char *value : {"-1", "inf", ""}) {
      const Result result = folder_->run({"train", "m.csv", std::string("--") + name + "=" + value});
      EXPECT_EQ(result.code, 2) << name << value;
      expect_contains(result.err, "must be a number of at least 0");
    }
  for (const char *name : {"epochs", "warmup", "patience", "seed", "threads", "keep"})
    for (const char *value : {"-1", "1.5", "99999999999999999999", "x"}) {
      const Result result = folder_->run({"train", "m.csv", std::string("--") + name + "=" + value});
      EXPECT_EQ(result.code, 2) << name << value;
      expect_contains(result.err, "must be a whole number of at least");
    }
  for (const char *name :
       {"optimizer", "normalize", "impute", "task", "precision", "fusion", "init", "activation", "unseen"}) {
    const Result result = folder_->run({"train", "m.csv", std::string("--") + name, "nosuch"});
    EXPECT_EQ(result.code, 2) << name;
    expect_contains(result.err, "'nosuch' (known: ");
  }
}

TEST_F(Refusals, OfTheOtherCommands) {
  const Case cases[] = {
      {"", 2, "descent: missing command (see descent --help)"},
      {"frobnicate", 2, "descent: unknown command 'frobnicate' (see descent --help)"},
      {"tarin", 2, "descent: unknown command 'tarin': did you mean train? (see descent --help)"},
      {"evalute m d", 2, "descent: unknown command 'evalute': did you mean evaluate? (see descent --help)"},
      {"train", 2, "needs DATA (see descent train --help)"},
      {"train nosuch.csv", 3, "nosuch.csv: cannot read: No such file or directory"},
      {"predict r r.csv --output classes", 2, "--output classes: the model predicts values, not classes"},
      {"predict r r.csv --output probabilities", 2, "the model predicts values, not classes"},
      {"predict r r.csv --threshold 0.3", 2, "--threshold: only for models with two classes"},
      {"evaluate m m.csv --batch-size 8", 2, "unknown option '--batch-size' (see descent evaluate --help)"},
      {"predict m m.csv --threshold 2", 2, "must be a number of at least 0 and at most 1"},
      {"predict m m.csv --out m.csv", 2, "--out 'm.csv': is also an input file"},
      {"predict m m.csv --out m", 2, "--out 'm': is also an input file"},
      {"predict m m.csv --out nosuch/x", 1, "nosuch/x: cannot write: No such file or directory"},
      {"predict m unseen.csv", 3,
       "unseen.csv:2: column 'colour': 'purple' is a category that the network did not see in training"},
      {"predict m r.csv", 3, "r.csv:1: 3 of the 3 columns that the network needs are missing"},
      {"evaluate m m.csv --target nosuch", 3, "no column 'nosuch'"},
      {"evaluate m unseen.csv --target colour", 3, "unseen.csv"},
      {"evaluate m m.csv --plot x.txt", 2, "which chart? its name must begin with roc, confusion"},
      {"evaluate m m.csv --plot roc.txt", 2, "charts are SVG: the name must end in .svg"},
      {"evaluate r r.csv --plot roc.svg", 2, "roc"},
      {"evaluate m m.csv --device nosuch", 2, "unknown device 'nosuch'"},
      {"evaluate m m.csv --device cpu --precision bf16", 4,
       "precision bf16: the cpu computes in fp32 (use precision fp32)"},
      {"evaluate m m.csv --device cpu --fusion on", 4,
       "fusion on: the device cpu computes layer by layer; use auto or off"},
      {"predict m m.csv --device cpu --precision tf32", 4,
       "precision tf32: the cpu computes in fp32 (use precision fp32)"},
      {"predict m m.csv --device cpu --fusion on", 4,
       "fusion on: the device cpu computes layer by layer; use auto or off"},
      {"predict m m.csv --fusion always", 2, "--fusion 'always': unknown fusion 'always' (known: auto, off, on)"},
      {"evaluate m m.csv --delimiter tab", 3, "3 of the 3 columns that the network needs are missing"},
      {"evaluate m", 2, "needs"},
      {"export m", 2, "--out FILE is needed (see descent export --help)"},
      {"export m --out x.zip", 2, "--out 'x.zip': ends in no known format: add --format onnx, c, npz or safetensors"},
      {"export m --out x.c --member 1", 2, "--member 1: m has only member 0"},
      {"export m --out x.c --member -2", 2, "'-2'"},
      {"export m --out x.c --member all", 2, "'all'"},
      {"export m --out -", 2, "--out '-': ends in no known format"},
      {"export m --out - --format c", 1, "cannot write: not a regular file"},
      {"export m --out /dev/null --format c", 1, "/dev/null: cannot write: not a regular file"},
      {"export m --out m --format c", 2, "--out 'm': is also an input file"},
      {"export m --out nosuch/x.c", 1, "nosuch/x.c: cannot write: No such file or directory"},
      {"export m --out x.onnx --check-data nosuch", 2, "unknown option '--check-data'"},
      {"export m.csv --out x.c", 3, "m.csv: not a .safetensors file"},
      {"convert m.csv m.csv", 2, "'m.csv': is also an input file"},
      {"convert m.csv ./m.csv", 2, "'./m.csv': is also an input file"},
      {"convert m.csv /dev/null", 1, "/dev/null: cannot write: not a regular file"},
      {"convert pipe.csv x.safetensors --two-passes", 3, "pipe.csv: not a regular file, which two passes require"},
      {"convert pipe.csv x.npz --format svmlight", 3, "pipe.csv: not a regular file, which svmlight requires"},
      {"convert pipe.csv x.npz --format npz", 3, "pipe.csv: not a regular file, which .npz requires"},
      {"info pipe.csv", 3, "pipe.csv: cannot read: not a regular file"},
      {"export pipe.csv --format c --out x.c", 3, "pipe.csv: cannot read: not a regular file"},
      {"convert m.csv x.npz --two-passes", 2, "--two-passes needs an output that ends in .safetensors"},
      {"convert m.csv x.npz --guard-formulas", 2, "--guard-formulas needs an output that ends in .csv or .tsv"},
      {"convert m.csv x.npz --target-file m.csv", 3, "'red' is not a finite number, which regression on several"},
      {"convert m.csv nosuch/x.safetensors --two-passes", 1, "No such file or directory"},
      {"convert nosuch x.csv", 3, "nosuch: cannot read: No such file or directory"},
      {"info", 2, "needs MODEL (see descent info --help)"},
      {"info nosuch", 3, "nosuch: cannot read: No such file or directory"},
      {"info .", 3, ".: cannot read: Is a directory"},
      {"info /dev/null", 3, "/dev/null: cannot read: not a regular file"},
      {"info m.csv", 3, "m.csv: not a .safetensors file, or truncated"},
      {"info m r", 2, "one argument too many: 'r' (see descent info --help)"},
      {"plot", 2, "needs RUN... (see descent plot --help)"},
      {"plot nosuch", 3, "nosuch: cannot read: No such file or directory"},
      {"plot m.csv", 3, "m.csv:1: is not a JSON object (expected a run log of descent train --log)"},
      {"plot m.csv -o x.txt", 2, "--out 'x.txt': charts are SVG: the name must end in .svg"},
      {"verify m --all", 2, "--all creates its own networks: omit m"},
      {"verify m --hidden 3", 2, "m defines the network: omit the network options"},
      {"verify --inputs 0", 2, "must be a whole number of at least 1"},
      {"verify --inputs 3 --outputs 2 --loss binary_cross_entropy", 2, "binary_cross_entropy needs 1 output, not 2"},
      {"bench --batch-size all", 2, "--batch-size all: there is no data here; give a number"},
      {"bench --predict --no-autotune", 2, "--no-autotune applies to training only: omit it with --predict"},
      {"bench --predict --dropout 0.5", 2, "--dropout applies to training only: omit it with --predict"},
      {"bench --predict --nesterov", 2, "--nesterov applies to training only: omit it with --predict"},
      {"bench --predict --optimizer sgd", 2, "--optimizer applies to training only: omit it with --predict"},
      {"bench --predict --schedule cosine", 2, "--schedule applies to training only: omit it with --predict"},
      {"bench --predict --warmup-steps 3", 2, "--warmup-steps applies to training only: omit it with --predict"},
      {"bench --fusion always", 2, "--fusion 'always': unknown fusion 'always' (known: auto, off, on)"},
      {"verify --fusion always", 2, "--fusion 'always': unknown fusion 'always' (known: auto, off, on)"},
      {"bench nosuch", 3, "nosuch: cannot read: No such file or directory"},
      {"bench --loss nosuch", 2, "nosuch"},
      {"bench --device nosuch", 2, "unknown device 'nosuch'"},
      {"devices extra", 2, "one argument too many: 'extra' (see descent devices --help)"},
      {"devices --nosuch", 2, "unknown option '--nosuch' (see descent devices --help)"},
  };
  expect_refused(cases);
}

TEST_F(Refusals, DatasetsThatCannotBeWrittenAsAsked) {
  const struct {
    const char *arguments;
    int code;
    const char *says;
  } cases[] = {
      {"convert m.csv x.unknown", 2, "x.unknown: unknown extension (known: .csv, .tsv, .npy"},
      {"convert r.csv x.svm --target y1,y2", 1, "svmlight stores one target and no weight per row"},
      {"convert m.csv x.idx --target answer", 1, "IDX files hold only integers from 0 to 255 (choose npy)"},
      {"convert m.csv x.safetensors --target colour --task binary", 3, "is a third class, but task binary has two"},
  };
  for (const auto &c : cases) {
    const Result result = folder_->run(words(c.arguments));
    EXPECT_EQ(result.code, c.code) << c.arguments;
    expect_contains(result.err, c.says);
    EXPECT_EQ(folder_->list(), names_) << c.arguments;
  }
}

TEST_F(Refusals, NoValidOptions) {
  for (const char *more : {"--schedule step:2:0.5",
                           "--schedule step:1",
                           "--schedule exponential:0.9",
                           "--schedule cosine:0.0001",
                           "--schedule cosine",
                           "--schedule plateau",
                           "--schedule plateau:1:0.5",
                           "--class-weight balanced",
                           "--class-weight no=2,yes=1",
                           "--class-weight 1,2",
                           "--validation 20%",
                           "--validation m.csv",
                           "--test m.csv",
                           "--hidden none",
                           "--batch-size all",
                           "--missing red",
                           "--weight-column width",
                           "--task classes",
                           "--indicators",
                           "--delimiter ,",
                           "--header yes",
                           "--impute most_frequent",
                           "--impute median --normalize minmax",
                           "--optimizer sgd --momentum 0.9 --nesterov",
                           "--optimizer rmsprop --momentum 0.5 --l2 0.1",
                           "--optimizer adamw --weight-decay 0.1 --clip-norm 1 --warmup 2",
                           "--optimizer gd --dropout 0.3",
                           "--optimizer lars --momentum 0.9 --lr 0.5 --weight-decay 0.0001 --trust-coefficient 0.02",
                           "--optimizer lamb --weight-decay 0.01 --l2 0.001 --clip-norm 1",
                           "--init he_normal --activation gelu",
                           "--init lecun_uniform --activation silu --patience 1",
                           "--label-smoothing 0.1",
                           "--categorical none",
                           "--ignore none",
                           "--epochs 0",
                           "--validation 0",
                           "--device reference",
                           "--unseen zeros"}) {
    const Result result =
        folder_->run(words(std::string("train m.csv --target answer --epochs 2 --hidden 4,3 --out z ") + more));
    EXPECT_EQ(result.code, 0) << more << result.err;
    expect_contains(result.out, "model saved to z");
    const Result shown = folder_->run({"info", "z"});
    EXPECT_EQ(shown.code, 0) << more << shown.err;
    std::filesystem::remove(*folder_ / "z");
    EXPECT_EQ(folder_->list(), names_) << more;
  }
}

/* A memory group of version 1 or 2 below that of this process, if one can be made. */
class SmallMemory {
 public:
  explicit SmallMemory(int64_t bytes) {
    std::istringstream groups(read_file("/proc/self/cgroup"));
    for (std::string line; std::getline(groups, line);) {
      const size_t first = line.find(':'), second = line.find(':', first + 1);
      const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
      if (controllers == "memory") limit("/sys/fs/cgroup/memory" + path, "/memory.limit_in_bytes", bytes);
      if (controllers.empty()) limit("/sys/fs/cgroup" + path, "/memory.max", bytes);
    }
  }
  ~SmallMemory() {
    if (!group_.empty()) rmdir(group_.c_str());
  }
  SmallMemory(const SmallMemory &) = delete;
  SmallMemory &operator=(const SmallMemory &) = delete;

  bool made() const { return !group_.empty(); }
  void enter() const { write_file(group_ + "/cgroup.procs", "0\n"); }

 private:
  void limit(const std::string &parent, const std::string &file, int64_t bytes) {
    const std::string group = parent + "/descent_test_" + std::to_string(getpid());
    if (made() || mkdir(group.c_str(), 0700) != 0) return;
    write_file(group + file, std::to_string(bytes));
    if (read_file(group + file) == std::to_string(bytes) + "\n")
      group_ = group;
    else
      rmdir(group.c_str());
  }

  std::string group_;
};

/* The kernel ends a process whose group is full, so the command stops before that. */
TEST(SmallMemory, IsAnErrorAndNotTheEnd) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers take more memory";
#endif
  const Folder folder;
  std::ostringstream text;
  for (int column = 0; column < 20; column++) text << 'c' << column << ',';
  text << "y\n";
  for (int cell = 0; cell < 5000 * 21; cell++) text << (cell * 7919 % 1000) / 3 << (cell % 21 < 20 ? "," : "\n");
  folder.write("data.csv", text.str());
  folder.write(
      "values.safetensors", std::string("\xe8\x03\x1e\0\0\0\0\0[", 9) + [] {
        std::string list;
        for (int i = 0; i < 983539; i++) list += "1,";
        return list + "1";
      }() + "]");
  for (const int64_t megabytes : {4, 8, 12, 16, 24, 64})
    for (const Arguments &arguments :
         {words("train data.csv --target y --task regression --epochs 1 --quiet --out m --hidden 64"),
          words("verify --inputs 4 --hidden 8"), words("convert data.csv x.npy --target y --task regression"),
          words("info values.safetensors")}) {
      const SmallMemory memory(megabytes << 20);
      if (!memory.made()) GTEST_SKIP() << "no memory group can be made here";
      const pid_t child = fork();
      if (child == 0) {
        memory.enter();
        const int err = open((folder / "err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(err, STDERR_FILENO);
        dup2(err, STDOUT_FILENO);
        folder.execute(arguments);
      }
      int status = 0;
      waitpid(child, &status, 0);
      const int code = exit_code(status), expected = arguments[0] == "info";
      EXPECT_TRUE(megabytes == 64 ? code == expected : code == 0 || code == 1)
          << megabytes << " MB: " << arguments[0] << ": " << code << ": " << folder.read("err");
    }
}

}  // namespace
