// A photo in (binary PPM, 224 x 224), the heat map of a class out (binary PGM).
#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

constexpr int SIDE = 224;

// The picture as EfficientNet-Lite0 takes it: float [1,3,224,224], RGB, (x - 127) / 128.
inline std::vector<float> read_picture(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    int width = 0, height = 0, most = 0;
    file >> magic >> width >> height >> most;
    if (magic != "P6" || width != SIDE || height != SIDE || most != 255)
        throw std::runtime_error(path + " is not a binary PPM of 224 x 224; make one with: convert photo.jpg -resize 224x224! photo.ppm");
    file.get();
    std::vector<unsigned char> rgb(3 * SIDE * SIDE);
    file.read(reinterpret_cast<char*>(rgb.data()), rgb.size());
    if (!file) throw std::runtime_error(path + " ends too early");
    std::vector<float> image(rgb.size());
    for (int channel = 0; channel < 3; ++channel)
        for (int pixel = 0; pixel < SIDE * SIDE; ++pixel)
            image[channel * SIDE * SIDE + pixel] = (rgb[3 * pixel + channel] - 127.0f) / 128.0f;
    return image;
}

// One heat map, [224,224] of 0 to 1.
inline void write_heatmap(const std::string& path, const float* heatmap) {
    std::ofstream file(path, std::ios::binary);
    file << "P5\n" << SIDE << " " << SIDE << "\n255\n";
    for (int pixel = 0; pixel < SIDE * SIDE; ++pixel)
        file.put(static_cast<char>(std::clamp(heatmap[pixel] * 255.0f + 0.5f, 0.0f, 255.0f)));
}

// The classes after the first two arguments; the top class (-1) if there are none.
inline std::vector<int64_t> asked_classes(int argc, char** argv) {
    std::vector<int64_t> classes;
    for (int i = 3; i < argc; ++i) classes.push_back(std::stoll(argv[i]));
    if (classes.empty()) classes.push_back(-1);
    return classes;
}
