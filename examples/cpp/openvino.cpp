// An explained model in C++ with OpenVINO:  openvino explained.onnx photo.ppm [CLASS ...]
// The model was instrumented with --class-input required: OpenVINO makes a constant of an input that has a default.
#include <openvino/openvino.hpp>

#include <iostream>

#include "picture.hpp"

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: openvino MODEL.onnx PHOTO.ppm [CLASS ...]");
    ov::Core core;
    // On processors with bfloat16 OpenVINO computes in it, unless it is told not to.
    auto compiled = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = compiled.create_infer_request();

    std::vector<float> image = read_picture(argv[2]);
    std::vector<int64_t> classes = asked_classes(argc, argv);
    request.set_tensor("image", ov::Tensor(ov::element::f32, {1, 3, SIDE, SIDE}, image.data()));
    request.set_tensor("xcam_class", ov::Tensor(ov::element::i64, {1, classes.size()}, classes.data()));
    request.infer();

    const auto numbers = request.get_tensor("xcam_classes"), scores = request.get_tensor("xcam_scores");
    const auto heatmaps = request.get_tensor("xcam_heatmap");
    for (size_t k = 0; k < classes.size(); ++k) {
        const int64_t number = numbers.data<int64_t>()[k];
        const std::string file = "explained." + std::to_string(number) + ".pgm";
        write_heatmap(file, heatmaps.data<float>() + k * SIDE * SIDE);
        std::cout << "class " << number << "  score " << scores.data<float>()[k] << "  " << file << "\n";
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
