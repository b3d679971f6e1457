from hf_radam.examples.classification import main

if __name__ == "__main__":
    main()
