#include "apps/folder_check.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

class FolderCheck : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text = "") const {
    std::ofstream(path_ + "/" + name) << text;
  }
  std::string refusal(ErrorCode code, const std::string& name = "") const {
    const Status status = check_model_folder(path_ + name);
    if (status) return "";
    EXPECT_EQ(status.error().code, code) << status.error().message;
    return status.error().message;
  }
  void expect_refusal(const std::string& beginning) const {
    const std::string message = refusal(ErrorCode::kUnsupported);
    EXPECT_TRUE(message.starts_with(path_ + "/" + beginning +
                                    ", which is not read; expected "
                                    "safetensors in BF16"))
        << message;
  }

  const test::TemporaryDirectory directory_;
  const std::string path_ = directory_.path();
};

TEST_F(FolderCheck, AModelIsAFolderWithItsConfiguration) {
  EXPECT_EQ(refusal(ErrorCode::kNotFound),
            path_ +
                ": no config.json; expected a model folder with config.json, *.safetensors and "
                "tokenizer.json");
  write("config.json", "{}");
  EXPECT_EQ(refusal(ErrorCode::kNotFound), "");
  EXPECT_EQ(refusal(ErrorCode::kInvalidArgument, "/config.json"),
            path_ + "/config.json: a file; expected the folder it lies in");
  EXPECT_TRUE(refusal(ErrorCode::kNotFound, "/none").starts_with(path_ + "/none: no such folder"));
}

TEST_F(FolderCheck, WeightsOfOtherProgramsAreNamed) {
  write("model-Q4_K_M.gguf");
  expect_refusal("model-Q4_K_M.gguf: llama.cpp's format GGUF");
  EXPECT_NE(refusal(ErrorCode::kUnsupported, "/model-Q4_K_M.gguf").find("format GGUF, which"),
            std::string::npos)
      << "the file itself as the model";
  write("model.safetensors");
  write("config.json", "{}");
  EXPECT_EQ(refusal(ErrorCode::kUnsupported), "") << "a file beside the weights does no harm";
}

TEST_F(FolderCheck, PickledWeightsAreNamed) {
  write("config.json", "{}");
  write("training_args.bin");
  EXPECT_EQ(refusal(ErrorCode::kUnsupported), "");
  write("pytorch_model-00001-of-00002.bin");
  expect_refusal("pytorch_model-00001-of-00002.bin: PyTorch's pickled format");
}

TEST_F(FolderCheck, OtherQuantisationsAreNamed) {
  for (const char* method : {"awq", "gptq", "bitsandbytes", "compressed-tensors"}) {
    write("config.json",
          std::string(R"({"quantization_config": {"quant_method": ")") + method + "\"}}");
    expect_refusal(std::string("config.json: weights quantised by '") + method +
                   "' (quant_method)");
  }
  for (const char* config :
       {R"({"quantization_config": {"quant_method": "fp8"}})",
        R"({"quantization_config": {"quant_method": "mxfp4"}})", R"({"quantization_config": {}})",
        R"({"quantization_config": 1})", "[]", "{"}) {
    write("config.json", config);
    EXPECT_EQ(refusal(ErrorCode::kUnsupported), "") << config << ": the configuration's own errors";
  }
}

TEST_F(FolderCheck, AnotherTokenizerCanBeConverted) {
  EXPECT_EQ(describe_missing_tokenizer(path_), "no tokenizer.json, which text needs");
  write("tokenizer.model");
  EXPECT_EQ(describe_missing_tokenizer(path_),
            "no tokenizer.json, which text needs; tokenizer.model is not read. transformers makes "
            "one of it: AutoTokenizer.from_pretrained(\"" +
                path_ + "\").save_pretrained(\"" + path_ + "\")");
}

}  // namespace
}  // namespace ultraspeed::apps
