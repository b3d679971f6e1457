from hf_radam.examples.language_modeling import main

if __name__ == "__main__":
    main()
