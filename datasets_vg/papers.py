"""The papers of the public datasets."""

from __future__ import annotations

from datasets_vg.sources import Paper

DEEP_VG = Paper(
    "berton2022deepvg",
    "Berton, Gabriele and Mereu, Riccardo and Trivigno, Gabriele and Masone, Carlo and Csurka, Gabriela and "
    "Sattler, Torsten and Caputo, Barbara",
    "Deep Visual Geo-localization Benchmark",
    "CVPR",
    2022,
)
PITTSBURGH = Paper(
    "torii2013repetitive",
    "Torii, Akihiko and Sivic, Josef and Pajdla, Tomas and Okutomi, Masatoshi",
    "Visual Place Recognition with Repetitive Structures",
    "CVPR",
    2013,
)
NETVLAD = Paper(
    "arandjelovic2016netvlad",
    "Arandjelovic, Relja and Gronat, Petr and Torii, Akihiko and Pajdla, Tomas and Sivic, Josef",
    "NetVLAD: CNN Architecture for Weakly Supervised Place Recognition",
    "CVPR",
    2016,
)
MSLS = Paper(
    "warburg2020msls",
    "Warburg, Frederik and Hauberg, Soren and Lopez-Antequera, Manuel and Gargallo, Pau and Kuang, Yubin and "
    "Civera, Javier",
    "Mapillary Street-Level Sequences: A Dataset for Lifelong Place Recognition",
    "CVPR",
    2020,
)
TOKYO = Paper(
    "torii2015tokyo247",
    "Torii, Akihiko and Arandjelovic, Relja and Sivic, Josef and Okutomi, Masatoshi and Pajdla, Tomas",
    "24/7 Place Recognition by View Synthesis",
    "CVPR",
    2015,
)
COSPLACE = Paper(
    "berton2022cosplace",
    "Berton, Gabriele and Masone, Carlo and Caputo, Barbara",
    "Rethinking Visual Geo-localization for Large-Scale Applications",
    "CVPR",
    2022,
)
BARBARANI = Paper(
    "barbarani2023local",
    "Barbarani, Giovanni and Mostafa, Mohamad and Bayramov, Hajali and Trivigno, Gabriele and Berton, Gabriele and "
    "Masone, Carlo and Caputo, Barbara",
    "Are Local Features All You Need for Cross-Domain Visual Place Recognition?",
    "CVPR Workshops",
    2023,
)
SAN_FRANCISCO = Paper(
    "chen2011sanfrancisco",
    "Chen, David M. and Baatz, Georges and Koeser, Kevin and Tsai, Sam S. and Vedantham, Ramakrishna and "
    "Pylvanainen, Timo and Roimela, Kimmo and Chen, Xin and Bach, Jeff and Pollefeys, Marc and Girod, Bernd and "
    "Grzeszczuk, Radek",
    "City-scale Landmark Identification on Mobile Devices",
    "CVPR",
    2011,
)
SF_POSES = Paper(
    "torii2021large",
    "Torii, Akihiko and Taira, Hajime and Sivic, Josef and Pollefeys, Marc and Okutomi, Masatoshi and "
    "Pajdla, Tomas and Sattler, Torsten",
    "Are Large-Scale 3D Models Really Necessary for Accurate Visual Localization?",
    "IEEE Transactions on Pattern Analysis and Machine Intelligence",
    2021,
)
EYNSHAM = Paper(
    "cummins2009fabmap",
    "Cummins, Mark and Newman, Paul",
    "Highly Scalable Appearance-only SLAM - FAB-MAP 2.0",
    "Robotics: Science and Systems",
    2009,
)
ST_LUCIA = Paper(
    "milford2008mapping",
    "Milford, Michael J. and Wyeth, Gordon F.",
    "Mapping a Suburb with a Single Camera Using a Biologically Inspired SLAM System",
    "IEEE Transactions on Robotics",
    2008,
)
SVOX = Paper(
    "berton2021adageo",
    "Berton, Gabriele and Paolicelli, Valerio and Masone, Carlo and Caputo, Barbara",
    "Adaptive-Attentive Geolocalization from Few Queries: A Hybrid Approach",
    "WACV",
    2021,
)
ROBOTCAR = Paper(
    "maddern2017robotcar",
    "Maddern, Will and Pascoe, Geoffrey and Linegar, Chris and Newman, Paul",
    "1 Year, 1000 km: The Oxford RobotCar Dataset",
    "The International Journal of Robotics Research",
    2017,
)
NORDLAND = Paper(
    "sunderhauf2013nordland",
    "Sunderhauf, Niko and Neubert, Peer and Protzel, Peter",
    "Are We There Yet? Challenging SeqSLAM on a 3000 km Journey Across All Four Seasons",
    "ICRA Workshop on Long-Term Autonomy",
    2013,
)
AMSTERTIME = Paper(
    "yildiz2022amstertime",
    "Yildiz, Burak and Khademi, Seyran and Siebes, Ronald Maria and van Gemert, Jan",
    "AmsterTime: A Visual Place Recognition Benchmark Dataset for Severe Domain Shift",
    "ICPR",
    2022,
)
SPED = Paper(
    "zaffar2021vprbench",
    "Zaffar, Mubariz and Garg, Sourav and Milford, Michael and Kooij, Julian and Flynn, David and "
    "McDonald-Maier, Klaus and Ehsan, Shoaib",
    "VPR-Bench: An Open-Source Visual Place Recognition Evaluation Framework with Quantifiable Viewpoint and "
    "Appearance Change",
    "International Journal of Computer Vision",
    2021,
)
BAIDU = Paper(
    "sun2017mall",
    "Sun, Xun and Xie, Yuanfan and Luo, Pei and Wang, Liang",
    "A Dataset for Benchmarking Image-Based Localization",
    "CVPR",
    2017,
)
GSV_CITIES = Paper(
    "alibey2022gsvcities",
    "Ali-bey, Amar and Chaib-draa, Brahim and Giguere, Philippe",
    "GSV-Cities: Toward Appropriate Supervised Visual Place Recognition",
    "Neurocomputing",
    2022,
)
