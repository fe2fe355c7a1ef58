// An explained model in C++ with ONNX Runtime:  onnxruntime explained.onnx photo.ppm [CLASS ...]
#include <onnxruntime_cxx_api.h>

#include <array>
#include <iostream>

#include "picture.hpp"

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: onnxruntime MODEL.onnx PHOTO.ppm [CLASS ...]");
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
    Ort::Session session(env, argv[1], Ort::SessionOptions{});
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);

    std::vector<float> image = read_picture(argv[2]);
    std::vector<int64_t> classes = asked_classes(argc, argv);
    const std::array<int64_t, 4> image_shape{1, 3, SIDE, SIDE};
    const std::array<int64_t, 2> class_shape{1, static_cast<int64_t>(classes.size())};
    std::array<Ort::Value, 2> inputs{
        Ort::Value::CreateTensor<float>(memory, image.data(), image.size(), image_shape.data(), image_shape.size()),
        Ort::Value::CreateTensor<int64_t>(memory, classes.data(), classes.size(), class_shape.data(), class_shape.size())};
    const std::array<const char*, 2> input_names{"image", "xcam_class"};  // without the second: the top class
    const std::array<const char*, 3> output_names{"xcam_classes", "xcam_scores", "xcam_heatmap"};

    auto outputs = session.Run(Ort::RunOptions{}, input_names.data(), inputs.data(), inputs.size(),
                               output_names.data(), output_names.size());
    for (size_t k = 0; k < classes.size(); ++k) {
        const int64_t number = outputs[0].GetTensorData<int64_t>()[k];
        const std::string file = "explained." + std::to_string(number) + ".pgm";
        write_heatmap(file, outputs[2].GetTensorData<float>() + k * SIDE * SIDE);
        std::cout << "class " << number << "  score " << outputs[1].GetTensorData<float>()[k] << "  " << file << "\n";
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
